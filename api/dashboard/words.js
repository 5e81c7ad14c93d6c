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
  users: ["Distinct users", "独立用户"], too_many: ["too many to count", "过多，无法计数"],
  success_rate: ["Success rate", "成功率"], input_tokens: ["Input tokens", "输入词元"],
  output_tokens: ["Output tokens", "输出词元"], cache_read_tokens: ["Cache read", "缓存读取"],
  cache_write_tokens: ["Cache write", "缓存写入"], reasoning_tokens: ["Reasoning", "推理"],
  plain_input: ["Input, not cached", "未缓存输入"], plain_output: ["Output, not reasoning", "非推理输出"],
  cost_credits: ["Cost (credits)", "成本（额度）"], vendor_cost: ["Vendor cost", "供应商成本"],
  difference: ["Cost − vendor cost", "成本 − 供应商成本"], unpriced_calls: ["Unpriced calls", "未定价调用"],
  margin_note: ["Calls whose vendor cost is unknown count here with their whole cost.",
    "供应商成本未知的调用在此按其全部成本计入。"],
  duration: ["Mean duration", "平均时长"], ttfb: ["Mean time to first byte", "平均首字节时间"],
  first_byte: ["First byte", "首字节"], duration_over_time: ["Duration over time", "时长趋势"],
  ttfb_over_time: ["Time to first byte over time", "首字节时间趋势"],
  logarithmic: ["The scale is logarithmic.", "纵轴为对数刻度。"],
  percentile_error: ["Percentiles are exact below 128 ms; above, each is off by this much of itself at most:",
    "百分位数在 128 毫秒以下精确；以上误差至多为其自身的"],
  no_percentiles: ["The range is too long, or the filter too narrow, for percentiles: these are means.",
    "范围过长或筛选过细，无法给出百分位数：此处为平均值。"],
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
  accounts: ["Accounts", "账户"], account: ["Account", "账户"], budgets: ["Budgets", "预算"], budget: ["Budget", "预算"],
  credentials: ["Credentials", "凭证"], deliveries: ["Deliveries", "投递"], owner: ["Owner", "所有者"],
  owner_kind: ["Owner's kind", "所有者类型"], owner_id: ["Owner's id", "所有者标识"], balance: ["Balance", "余额"],
  free_quota: ["Free quota", "免费额度"], held: ["Held", "已冻结"], available: ["Available", "可用"], owed: ["Owed", "欠额"],
  spent: ["Spent", "已用"], average: ["A day", "日均"], days_left: ["Days left", "剩余天数"], state: ["State", "状态"], low: ["Low", "偏低"],
  overdraft: ["Overdraft", "透支"], overdraft_never: ["never", "不允许"], overdraft_unheld: ["calls without a hold", "未冻结的调用"],
  low_balance: ["Low below", "低额阈值"], apps: ["Granted to", "授权应用"], statement: ["Statement", "账单明细"], sequence: ["No.", "序号"],
  kind: ["Kind", "种类"], amount: ["Amount", "金额"], before: ["Before", "之前"], after: ["After", "之后"], related: ["Belongs to", "关联"],
  scope: ["Scope", "范围"], scope_id: ["Scope's id", "范围标识"], period: ["Period", "周期"], day: ["day", "日"], month: ["month", "月"], rolling: ["rolling", "滚动"],
  until: ["Until", "截止"], enforcement: ["Enforcement", "执行方式"], soft: ["soft", "提醒"], hard: ["hard", "拒绝"],
  remaining: ["Remaining", "剩余"], used: ["Used", "已用比例"], thresholds: ["Thresholds", "阈值"], crossed: ["Crossed", "已越过"],
  near_limit: ["Near its limit", "接近上限"], daily: ["Today", "今日"], monthly: ["This month", "本月"], daily_resets: ["Day resets", "日重置"],
  monthly_resets: ["Month resets", "月重置"], weight: ["Weight", "权重"], priority: ["Priority", "优先级"], errors_in_row: ["Errors in a row", "连续错误"],
  penalised: ["Less traffic until", "降权至"], recheck: ["Re-check", "复查"], last_used: ["Last used", "最近使用"], enabled: ["Enabled", "启用"],
  credential_normal: ["normal", "正常"], credential_disabled: ["disabled", "已停用"], credential_error: ["error", "错误"],
  credential_unreadable: ["unreadable", "无法解密"], credential_rate_limited: ["rate limited", "被限速"],
  credential_daily_limit: ["daily limit", "达到日上限"], credential_monthly_limit: ["monthly limit", "达到月上限"],
  usage_reports: ["Usage reports", "用量上报"], batches: ["Batches", "批次"], webhooks: ["Webhooks", "网络回调"], webhook: ["Webhook", "网络回调"],
  payment_system: ["Payment system", "支付系统"], behind: ["Events behind", "待处理事件"], collecting: ["Collecting", "收集中"],
  oldest_age: ["Oldest unsent", "最早未发送"], reporting_on: ["on", "运行中"], reporting_paused: ["paused", "已暂停"], reporting_off: ["not in use", "未启用"],
  batch_pending: ["pending", "待发送"], batch_claimed: ["being sent", "发送中"], batch_reported: ["reported", "已上报"], batch_failed: ["failed, tried again", "失败待重试"],
  batch_dead: ["given up", "已放弃"], created_at: ["Made", "创建"], due_at: ["Next try", "下次尝试"], reported_at: ["Reported", "上报时间"],
  attempts: ["Attempts", "尝试次数"], report_status: ["Batch's status", "批次状态"], address: ["Address", "地址"], events: ["Events", "事件"],
  delivered: ["Delivered", "已投递"], last_delivered_at: ["Last delivered", "最近投递"], dead_letters: ["Dead letters", "死信"], failed_at: ["Given up", "放弃时间"],
  webhook_on: ["in order", "正常"], webhook_off: ["disabled", "已停用"], webhook_trying: ["trying again", "重试中"], webhook_failing: ["failing", "失败"],
  empty_accounts: ["No accounts.", "没有账户。"], empty_statement: ["Nothing moved yet.", "尚无变动。"], empty_budgets: ["No budgets.", "没有预算。"],
  empty_credentials: ["No credentials.", "没有凭证。"], empty_reports: ["No batches.", "没有批次。"], empty_webhooks: ["No webhooks.", "没有网络回调。"],
  empty_dead: ["No dead letters.", "没有死信。"], file_cut: ["The file ends after so many rows:", "文件在此行数后截止："],
  closed: ["This key's role may not see this.", "此密钥的角色不能查看此内容。"], slowest: ["Greatest lag (events)", "最大滞后（事件）"],
  leases_ahead: ["Leases ahead of the clock", "租约领先时钟"],
  pause: ["Pause", "暂停"], resume: ["Resume", "继续"], manifest: ["Manifest", "清单"],
  parquet_missing: ["Parquet is an extra that is not installed here.", "Parquet 为可选组件，此处未安装。"],
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
