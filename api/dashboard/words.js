// Every word of the dashboard, in English and Chinese.
const WORDS = {
  overview: ["Overview", "概览"], series: ["Breakdown", "分解"], tokens: ["Tokens", "词元"], errors: ["Errors", "错误"],
  cost: ["Cost", "成本"], speed: ["Speed", "速度"], calls: ["Calls", "调用"], live: ["Live", "实时"],
  health: ["Health", "健康"], title: ["Usage Ledger", "用量账本"], skip: ["Skip to content", "跳到内容"],
  views: ["Views", "视图"], filters: ["Filters", "筛选"], range: ["Range", "范围"], zone: ["Time zone", "时区"],
  from: ["From", "从"], to: ["To", "到"], apply: ["Apply", "执行"], clear: ["Clear filters", "清除筛选"],
  app: ["App", "应用"], provider: ["Provider", "提供商"], model: ["Model", "模型"], user_id: ["User", "用户"],
  type: ["Type", "类型"], status: ["Status", "状态"], credential_id: ["Credential", "凭证"], q: ["Text", "文本"],
  any: ["any", "任意"], none: ["(none)", "（无）"], rest: ["others", "其他"], total: ["Total", "合计"],
  theme: ["Theme", "主题"], auto: ["System", "系统"], light: ["Light", "浅色"], dark: ["Dark", "深色"],
  language: ["Language", "语言"], sign_out: ["Sign out", "退出"], sign_in: ["Sign in", "登录"],
  key: ["API key", "API 密钥"], sign_in_help: [
    "An app's key sees its own calls; admin, auditor and dashboard keys see all. The key itself is not kept.",
    "应用密钥只能看到自己的调用；管理员、审计员和仪表盘密钥可看到全部。密钥本身不会被保存。"],
  link_used: ["This link was used before, or its time is over.", "此链接已被使用或已过期。"],
  key_refused: ["This key is not valid.", "此密钥无效。"],
  signed_out: ["The session is over. Please sign in again.", "会话已结束，请重新登录。"],
  disconnected: ["Disconnected: the service does not answer. Trying again …", "已断开：服务没有响应，正在重试……"],
  connected: ["Live", "实时"], waiting: ["Connecting …", "连接中……"], failed_load: ["This could not be loaded", "无法加载"],
  empty: ["No calls in this range with these filters.", "此范围和筛选条件下没有调用。"],
  empty_live: ["Waiting for calls …", "等待调用……"], loading: ["Loading …", "加载中……"],
  n_calls: ["Calls", "调用数"], succeeded: ["Succeeded", "成功"], failed: ["Failed", "失败"],
  success_rate: ["Success rate", "成功率"], input_tokens: ["Input tokens", "输入词元"],
  output_tokens: ["Output tokens", "输出词元"], cache_read_tokens: ["Cache read", "缓存读取"],
  cache_write_tokens: ["Cache write", "缓存写入"], reasoning_tokens: ["Reasoning", "推理"],
  plain_input: ["Input, not cached", "未缓存输入"], plain_output: ["Output, not reasoning", "非推理输出"],
  cost_credits: ["Cost (credits)", "成本（额度）"], vendor_cost: ["Vendor cost", "供应商成本"],
  difference: ["Cost − vendor cost", "成本 − 供应商成本"], unpriced_calls: ["Unpriced calls", "未定价调用"],
  margin_note: ["Calls whose vendor cost is unknown count here with their whole cost.",
    "供应商成本未知的调用在此按其全部成本计入。"],
  duration: ["Mean duration", "平均时长"], ttfb: ["Mean time to first byte", "平均首字节时间"],
  took: ["Duration", "时长"], previous: ["Previous period", "上一周期"], since_nothing: ["from 0", "从 0 起"],
  metric: ["Measure", "度量"], group: ["By", "按"], groups: ["groups", "组"],
  table: ["Table", "表格"], chart: ["Chart", "图表"], csv: ["CSV", "CSV"], start: ["Start", "开始"], reason: ["Reason", "原因"],
  share: ["Share", "占比"], drill: ["Show calls", "查看调用"], calls_over_time: ["Calls over time", "调用趋势"],
  cost_over_time: ["Cost over time", "成本趋势"], tokens_over_time: ["Tokens over time", "词元趋势"],
  errors_over_time: ["Failed calls by reason", "按原因的失败调用"], speed_over_time: ["Speed over time", "速度趋势"],
  by_model: ["By model", "按模型"], by_app: ["By app", "按应用"], no_code: ["(no code)", "（无代码）"],
  errors_since: ["Only the newest calls were looked at, since", "仅查看了最新的调用，起于"],
  more: ["More", "更多"], id: ["Id", "标识"], started_at: ["Start", "开始"], usage: ["Usage", "用量"],
  detail: ["Call", "调用"], back: ["Back to the list", "返回列表"], trail: ["Event trail", "事件轨迹"],
  trail_closed: ["This key's role may not read events.", "此密钥的角色不能读取事件。"],
  field: ["Field", "字段"], value: ["Value", "值"], position: ["Position", "位置"], projection: ["Projection", "投影"],
  lag: ["Lag (events)", "滞后（事件）"], version: ["Version", "版本"], hash: ["State hash", "状态哈希"],
  ready: ["Ready", "就绪"], unready: ["Not ready", "未就绪"], root_hash: ["Root hash", "根哈希"],
  recorded_at: ["Last entry", "最后条目"], sqlite: ["SQLite", "SQLite"], current: ["current", "最新"],
  rebuilding: ["rebuilding", "重建中"], integrity: ["Integrity", "完整性"], projections: ["Projections", "投影"],
  details_closed: ["Details are for keys of role admin, auditor or dashboard.", "详情仅供管理员、审计员或仪表盘密钥查看。"],
  position_help: ["Keep position and root hash elsewhere: another root at the same position means changed history.",
    "请在别处保存位置与根哈希：同一位置出现不同的根即表示历史被更改。"],
  zoom_help: ["Drag to zoom, click to see the calls.", "拖动可缩放，点击查看调用。"],
  pause: ["Pause", "暂停"], resume: ["Resume", "继续"], manifest: ["Manifest", "清单"],
};

const stored = (name) => {
  try { return localStorage.getItem(name); } catch { return null; }
};

let current = stored("language") || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
document.documentElement.lang = current;

export const language = () => current;
export const t = (word) => WORDS[word]?.[current === "zh" ? 1 : 0] ?? word;

export function keep(name, value) {
  try { localStorage.setItem(name, value); } catch { /* private browsing: the choice lasts as long as the page */ }
}

export function speak(wanted) {
  current = wanted;
  document.documentElement.lang = wanted;
  keep("language", wanted);
}

export { stored };
