"""The style of a report's page: light and dark, on screens and on paper."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #16202c; --soft: #5b6878; --rule: #e1e6ec;
  --track: #edf0f4; --moved: #2f6fde; --mounted: #12968a; --present: #7f8fa6; --left: #cdd5df;
  --bad: #cf3341; --good: #1d8a4e; --wait: #a86a00; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0f141a; --card: #182029; --ink: #e6ebf1; --soft: #97a4b3; --rule: #2a3440;
  --track: #232d38; --moved: #6ba0ff; --mounted: #3cc7b8; --present: #8496ad; --left: #3b4755;
  --bad: #ff7a85; --good: #5fd08f; --wait: #efb54f; --on: #10161d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
header { margin-bottom: 24px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 16px; }
p { margin: 4px 0; } .soft, .soft a { color: var(--soft); }
code, .mono { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.badge { display: inline-block; vertical-align: 4px; margin-left: 12px; padding: 1px 10px;
  border-radius: 99px; border: 1px solid currentColor; font-size: 13px; font-weight: 600; }
.succeeded { color: var(--good); } .failed { color: var(--bad); }
.cancelled, .retrying { color: var(--wait); } .running, .queued { color: var(--moved); }
.tiles { display: grid; gap: 16px; margin-bottom: 16px;
  grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); }
.cards { display: grid; gap: 16px; margin-bottom: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px;
  padding: 16px 20px; }
.card { padding: 20px; margin-bottom: 16px; } .cards .card { margin: 0; }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.note { border-color: var(--bad); }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; font-size: 13px; fill: var(--ink); }
svg .tick { fill: var(--soft); font-size: 11px; } svg .value { fill: var(--soft); }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; }
svg .grid { stroke: var(--rule); } svg .track { fill: var(--track); }
svg .inside { fill: var(--on); font-weight: 600; } svg .inside.left { fill: var(--ink); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .area { opacity: .14; stroke: none; }
svg .bar.moved, svg .area.moved { fill: var(--moved); }
svg .bar.mounted, svg .area.mounted { fill: var(--mounted); }
svg .bar.present { fill: var(--present); } svg .bar.left { fill: var(--left); }
svg .bar.bad { fill: var(--bad); }
svg .line.moved { stroke: var(--moved); }
svg .line.mounted { stroke: var(--mounted); stroke-dasharray: 6 4; }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 20px; padding: 0;
  margin: 16px 0 0; color: var(--soft); font-size: 13px; }
.legend b { color: var(--ink); font-weight: 600; }
.legend i, .key i { display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  margin-right: 8px; }
table.key { margin-top: 12px; } table.key td:last-child { padding-right: 0; color: var(--soft); }
ul.plain { list-style: none; margin: 8px 0 0; padding: 0; font-size: 13px;
  overflow-wrap: anywhere; }
ul.plain li { margin-top: 6px; } ul.plain b { color: var(--ink); font-weight: 600; }
i.moved { background: var(--moved); } i.mounted { background: var(--mounted); }
i.present { background: var(--present); } i.left { background: var(--left); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { text-align: left; color: var(--soft); font-weight: 600; white-space: nowrap; }
th, td { padding: 7px 16px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
tr:last-child td { border-bottom: 0; }
summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 12px; }
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #ccc; --track: #eee;
    --moved: #2f6fde; --mounted: #12968a; --present: #7f8fa6; --left: #cdd5df; --bad: #cf3341;
    --good: #1d8a4e; --wait: #a86a00; --on: #fff; }
  body { font-size: 12px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .tile, .card, tr { break-inside: avoid; } .long { break-inside: auto; }
}
"""
