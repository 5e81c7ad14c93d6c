// Charts by Plotly. A bucket is a category, so a drag selects whole buckets and a repeated clock hour keeps its place.
const LIGHT = ["#2b6cb0", "#c05621", "#2f855a", "#b83280", "#6b46c1", "#0f7c8a", "#97730b", "#c53030"];
const DARK = ["#63a4e0", "#e08a4f", "#5fb98a", "#e07ab5", "#a78bea", "#4bb8c6", "#cfa93c", "#ee7d7d"];
const REST = "#808a94";

export const isDark = () => {
  const wanted = document.documentElement.dataset.theme;
  return wanted ? wanted === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
export const colour = (n) => (n < 0 ? REST : (isDark() ? DARK : LIGHT)[n % LIGHT.length]);

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// `series`: name, values (numbers for heights), texts (exact, for reading), colour number; `line` draws no bar.
export async function draw(place, { buckets, series, unit, stacked = true, logarithmic = false, onzoom, onpick }) {
  await library();
  if (!place.isConnected) return;
  const traces = series.map((each, n) => ({
    type: each.line ? "scatter" : "bar", mode: each.line ? "lines+markers" : undefined, name: each.name, x: buckets,
    y: logarithmic ? each.values.map(raised) : each.values, customdata: each.texts, hovertemplate: "%{customdata}",
    marker: { color: colour(each.colour ?? n), line: { width: 0 }, size: each.line ? dots(each.values) : undefined },
    line: each.line ? { color: colour(each.colour ?? n), width: 1.6, dash: each.dash ? "dot" : "solid" } : undefined,
    connectgaps: false,
  }));
  const ticks = tickAt(buckets.length, place.clientWidth || 800);
  const text = { color: css("--quiet"), size: 11, family: css("--face") };
  const layout = {
    height: 220, margin: { l: 56, r: 34, t: 8, b: 24 }, barmode: stacked ? "stack" : "group", bargap: 0.12,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: text, showlegend: false,
    dragmode: "zoom", hovermode: "x unified", hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { ...text, color: css("--text") } },
    xaxis: {
      type: "category", tickvals: ticks, ticktext: ticks.map((i) => buckets[i]), showgrid: false, zeroline: false, tickangle: 0,
      range: [-0.5, buckets.length - 0.5], linecolor: css("--line"),
    },
    yaxis: { rangemode: "tozero", gridcolor: css("--grid"), zerolinecolor: css("--line"), fixedrange: true, ticksuffix: unit ? ` ${unit}` : "", nticks: 5, exponentformat: "SI",
      ...(logarithmic && powers(series.flatMap((each) => each.values), unit)) },
  };
  await Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true, doubleClick: false });
  place.removeAllListeners?.("plotly_relayout");
  place.removeAllListeners?.("plotly_click");
  place.on("plotly_relayout", (change) => {
    const [low, high] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (low === undefined || !onzoom) return;
    const last = buckets.length - 1;
    onzoom(Math.max(0, Math.min(last, Math.round(low))), Math.max(0, Math.min(last, Math.round(high))));
  });
  place.on("plotly_click", (event) => {
    onpick?.(event.points[0].pointNumber, hit(event, series));
  });
}

// An axis by powers of ten, for values that lie far apart, from one of 1, 2, 5, 10 … to another. It has no 0: that is drawn
// as 1. Where the steps are many, every power of ten has its label.
const LABELS_MAX = 6;
const STEPS = Array.from({ length: 48 }, (_, n) => [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3));
const raised = (value) => (value === null ? null : Math.max(1, value));

function powers(values, unit) {
  const known = values.filter((value) => value !== null).map(raised);
  if (!known.length) return {};
  const low = STEPS.findLast((step) => step <= Math.min(...known));
  const high = STEPS.find((step) => step > Math.max(...known)) ?? STEPS.at(-1);
  const between = STEPS.filter((step) => step >= low && step <= high);
  const ticks = between.length <= LABELS_MAX ? between : between.filter((step) => String(step).startsWith("1"));
  const label = (tick) => `${tick < 1000 ? tick : `${tick / 1000}k`} ${unit}`;
  return { type: "log", range: [low, high].map(Math.log10), tickvals: ticks, ticktext: ticks.map(label) };
}

// A value between gaps makes no line, so it is a dot.
const dots = (values) => values.map((value, n) => (value !== null && (values[n - 1] ?? null) === null && (values[n + 1] ?? null) === null ? 6 : 0));

// Which series' bar was clicked; several share a bucket, so the height of the click decides.
function hit(event, series) {
  const { pointNumber, yaxis } = event.points[0];
  const at = yaxis.p2d(event.event.clientY - event.event.target.getBoundingClientRect().top);
  let height = 0;
  for (const [n, each] of series.entries()) {
    height += each.values[pointNumber] || 0;
    if (!each.line && at <= height) return n;
  }
  return -1;
}

function tickAt(count, width) {
  const wanted = Math.max(2, Math.floor(width / 110));
  const step = Math.max(1, Math.ceil(count / wanted));
  return Array.from({ length: Math.ceil(count / step) }, (_, n) => n * step);
}

let loading = null;

// The library is large, so it comes when someone is signed in, while the first figures are asked for.
export function library() {
  loading ??= new Promise((done, refuse) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.charts;
    script.onload = done;
    script.onerror = () => { loading = null; refuse(new TypeError("the charts could not be loaded")); };
    document.head.append(script);
  });
  return loading;
}
