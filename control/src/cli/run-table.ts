/** The table that compares a run's modes. */
import type { Palette } from '../probe/report.ts';
import type { RunReport } from '../traffic/run.ts';

type Column = readonly [title: string, value: (report: RunReport) => string];

const COLUMNS: readonly Column[] = [
  ['mode', (report) => report.mode],
  ['packets', (report) => count(report.packets)],
  ['Mpps', (report) => (report.packetsPerSecond / 1e6).toFixed(2)],
  ['ns/packet', (report) => report.nsPerPacket.toFixed(0)],
  ['new flows/s', (report) => count(Math.round(report.newFlowsPerSecond))],
  ['delivered', (report) => count(sum(report, 'delivered'))],
  ['forwarded', (report) => count(sum(report, 'forwarded'))],
  ['dropped', (report) => count(sum(report, 'dropped'))],
  ['rejected', (report) => count(sum(report, 'rejected'))],
  ['rules/packet', (report) => report.rulesPerPacket.toFixed(1)],
  ['lookups/packet', (report) => report.lookupsPerPacket.toFixed(1)],
];

export function formatRunTable(reports: readonly RunReport[], palette: Palette): string {
  const rows = reports.map((report) => COLUMNS.map(([, value]) => value(report)));
  const widths = COLUMNS.map(([title], i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  const lines = [palette.bold(line(COLUMNS.map(([title]) => title))), ...rows.map(line), ''];
  for (const report of reports) lines.push(...detailLines(report, palette));
  const { workers, seed } = reports[0]!;
  lines.push(
    palette.dim(
      `Emulated speed on ${workers} ${workers === 1 ? 'worker' : 'workers'}, frames generated and delivered included, ` +
        `replies counted; not the kernel's. Seed ${seed}.`,
    ),
  );
  return lines.join('\n');
}

/** Drops and rejects by reason, and whatever went wrong. */
function detailLines(report: RunReport, palette: Palette): string[] {
  const lines: string[] = [];
  for (const { verdict, reason, packets } of report.outcomes) {
    if (verdict === 'delivered' || verdict === 'forwarded') continue;
    lines.push(`${report.mode}: ${verdict} ${count(packets)} ${reason}`);
  }
  if (report.refused > 0) lines.push(`${report.mode}: ${count(report.refused)} connects refused at the socket`);
  if (report.lost.workers > 0) {
    const { workers, frames, flows } = report.lost;
    lines.push(palette.bad(`${report.mode}: ${workers} workers died; ${frames} frames and ${flows} flows lost`));
  }
  if (report.broken > 0) {
    lines.push(palette.bad(`${report.mode}: ${report.broken} of ${report.verified} verified frames were wrong`));
  }
  return lines;
}

function sum(report: RunReport, verdict: string): number {
  return report.outcomes.reduce((total, outcome) => total + (outcome.verdict === verdict ? outcome.packets : 0), 0);
}

function count(value: number): string {
  return value.toLocaleString('en');
}
