/** Checks of one Pod: its addresses, one a family. */

import type { Pod } from '../model/pod.ts';
import type { FieldReport } from './field-report.ts';
import { show } from './shape.ts';

export function checkPod(pod: Pod, report: FieldReport): void {
  const { podIP, podIPs } = pod.status;
  const first = podIP === '' ? null : report.address('status.podIP', podIP);
  const addresses = podIPs.map(({ ip }, index) =>
    ip === '' ? null : report.address(`status.podIPs[${index}].ip`, ip),
  );
  if (first !== null && addresses[0] != null && addresses[0].text !== first.text) {
    report.error('status.podIPs[0].ip', `${show(podIPs[0]?.ip)} differs from status.podIP ${show(podIP)}`);
  }
  for (const family of [4, 6] as const) {
    if (addresses.filter((address) => address?.family === family).length > 1) {
      report.error('status.podIPs', `holds two IPv${family} addresses`);
    }
  }
}
