/**
 * Checks of one Service: ports and their names, addresses and families, traffic options.
 *
 * Odd but valid (a warning): an ExternalName or headless Service with a clusterIP or nodePort that nothing uses, options
 * that have no effect.
 */

import { parseAddress } from '../model/address.ts';
import type { Service, ServicePort } from '../model/service.ts';
import { type FieldReport, isPortName, isPortNumber } from './field-report.ts';
import { show } from './shape.ts';

const MAX_AFFINITY_SECONDS = 86_400;

export function checkService(service: Service, report: FieldReport): void {
  const { spec } = service;
  const isExternalName = spec.type === 'ExternalName';
  const isHeadless = spec.clusterIP === 'None' && !isExternalName;
  if (isExternalName) checkExternalName(service, report);
  if (spec.ports.length === 0 && !isExternalName && !isHeadless) report.error('spec.ports', 'is required');
  checkPorts(service, report);
  if (isHeadless && spec.type !== 'ClusterIP') {
    report.warn('spec.clusterIP', `"None" makes this ${spec.type} Service headless: it has no address of its own`);
  }
  if (!isExternalName) checkClusterIPs(service, report);
  checkExternalAddresses(service, report);
  checkAffinity(service, report);
}

function checkExternalName({ spec }: Service, report: FieldReport): void {
  if (spec.externalName === '') report.error('spec.externalName', 'is required');
  if (spec.clusterIP !== '' && spec.clusterIP !== 'None') {
    report.warn('spec.clusterIP', 'has no effect: an ExternalName Service has no address');
  }
}

function checkPorts({ spec }: Service, report: FieldReport): void {
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  const isSkipped = spec.type === 'ExternalName' || spec.clusterIP === 'None';
  spec.ports.forEach((port, index) => {
    const field = `spec.ports[${index}]`;
    checkPortName(port, `${field}.name`, spec.ports.length, names, report);
    checkTargetPort(port, `${field}.targetPort`, report);
    const number = `${port.port}/${port.protocol}`;
    if (numbers.has(number)) report.error(`${field}.port`, `${number} stands twice in this Service`);
    numbers.add(number);
    if (port.nodePort === 0) return;
    if (isSkipped) report.warn(`${field}.nodePort`, 'has no effect: the Service has no address');
    const nodePort = `${port.nodePort}/${port.protocol}`;
    if (nodePorts.has(nodePort)) report.error(`${field}.nodePort`, `${nodePort} stands twice in this Service`);
    nodePorts.add(nodePort);
  });
}

function checkPortName(port: ServicePort, field: string, ports: number, names: Set<string>, report: FieldReport): void {
  if (port.name === '') {
    if (ports > 1) report.error(field, 'is required where a Service has several ports');
    return;
  }
  if (port.name.length > 63 || !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(port.name)) {
    report.error(field, `${show(port.name)} is not a port's name (lower-case letters, digits and '-')`);
  }
  if (names.has(port.name)) report.error(field, `${show(port.name)} stands twice in this Service`);
  names.add(port.name);
}

function checkTargetPort({ targetPort }: ServicePort, field: string, report: FieldReport): void {
  if (targetPort === undefined || targetPort === 0 || targetPort === '') return;
  if (typeof targetPort === 'number') {
    if (!isPortNumber(targetPort)) report.error(field, `${targetPort} is not a port (1 to 65535)`);
  } else if (!isPortName(targetPort)) {
    report.error(field, `${show(targetPort)} is neither a port's number nor its name`);
  }
}

function checkClusterIPs({ spec }: Service, report: FieldReport): void {
  const { clusterIP, clusterIPs, ipFamilies } = spec;
  if (clusterIPs.length > 0 && clusterIP !== '' && clusterIPs[0] !== clusterIP) {
    report.error('spec.clusterIPs[0]', `${show(clusterIPs[0])} differs from spec.clusterIP ${show(clusterIP)}`);
  }
  const isGiven = clusterIPs.length > 0;
  const texts = isGiven ? clusterIPs : clusterIP === '' ? [] : [clusterIP];
  const fieldOf = (index: number): string => (isGiven ? `spec.clusterIPs[${index}]` : 'spec.clusterIP');
  if (texts[0] === 'None') {
    if (texts.length > 1) report.error('spec.clusterIPs', '"None" stands alone');
  } else {
    const addresses = texts.map((text, index) => report.address(fieldOf(index), text));
    if (texts.length > 2) report.error('spec.clusterIPs', 'holds at most one address a family');
    if (texts.length === 2 && addresses[0] != null && addresses[0].family === addresses[1]?.family) {
      report.error('spec.clusterIPs', `holds two IPv${addresses[0].family} addresses`);
    }
    addresses.forEach((address, index) => {
      const family = ipFamilies[index];
      if (address === null || family === undefined || family === `IPv${address.family}`) return;
      report.error(fieldOf(index), `${show(address.text)} is not ${family}, which spec.ipFamilies[${index}] says`);
    });
  }
  if (ipFamilies.length > 2) report.error('spec.ipFamilies', 'holds at most IPv4 and IPv6');
  else if (ipFamilies.length === 2) {
    if (ipFamilies[0] === ipFamilies[1]) report.error('spec.ipFamilies[1]', `${ipFamilies[1]} stands twice`);
    if (spec.ipFamilyPolicy === 'SingleStack') report.error('spec.ipFamilyPolicy', 'SingleStack takes one family');
  }
}

function checkExternalAddresses(service: Service, report: FieldReport): void {
  const { spec, status } = service;
  spec.externalIPs.forEach((text, index) => {
    report.address(`spec.externalIPs[${index}]`, text);
  });
  status.loadBalancer.ingress.forEach((ingress, index) => {
    if (ingress.ip !== '') report.address(`status.loadBalancer.ingress[${index}].ip`, ingress.ip);
  });
  spec.loadBalancerSourceRanges.forEach((text, index) => {
    report.prefix(`spec.loadBalancerSourceRanges[${index}]`, text.trim());
  });
  if (spec.loadBalancerSourceRanges.length > 0 && spec.type !== 'LoadBalancer') {
    report.warn('spec.loadBalancerSourceRanges', `has no effect on a Service of type ${spec.type}`);
  }
  if (spec.loadBalancerIP !== '' && parseAddress(spec.loadBalancerIP) === null) {
    report.warn('spec.loadBalancerIP', `${show(spec.loadBalancerIP)} is not an address and is ignored`);
  }
}

function checkAffinity({ spec }: Service, report: FieldReport): void {
  const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (seconds === undefined) return;
  const field = 'spec.sessionAffinityConfig.clientIP.timeoutSeconds';
  if (seconds < 1 || seconds > MAX_AFFINITY_SECONDS) {
    report.error(field, `${seconds} is not a timeout (1 to ${MAX_AFFINITY_SECONDS} seconds)`);
  } else if (spec.sessionAffinity !== 'ClientIP') {
    report.warn(field, 'has no effect: spec.sessionAffinity is not ClientIP');
  }
}
