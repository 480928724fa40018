/**
 * The checks of one object that its schema cannot say: which are an error and which are odd but valid follows what a
 * real API server lets in. Nothing here looks at another object.
 */

import { checkAdminNetworkPolicy, checkBaselineAdminNetworkPolicy } from './check-admin-network-policy.ts';
import { checkClusterNetworkPolicy } from './check-cluster-network-policy.ts';
import { checkEndpointSlice, checkEndpoints } from './check-endpoint-slice.ts';
import { checkNetworkPolicy } from './check-network-policy.ts';
import { checkNode } from './check-node.ts';
import { checkPod } from './check-pod.ts';
import { checkService } from './check-service.ts';
import { checkWorkload } from './check-workload.ts';
import { FieldReport } from './field-report.ts';
import type { TaggedObject } from './read-object.ts';
import type { FieldProblem } from './shape.ts';

export function checkFields(tagged: TaggedObject): readonly FieldProblem[] {
  const report = new FieldReport();
  switch (tagged.kind) {
    case 'Service':
      checkService(tagged.object, report);
      break;
    case 'EndpointSlice':
      checkEndpointSlice(tagged.object, report);
      break;
    case 'Endpoints':
      checkEndpoints(tagged.object, report);
      break;
    case 'Pod':
      checkPod(tagged.object, report);
      break;
    case 'Node':
      checkNode(tagged.object, report);
      break;
    case 'NetworkPolicy':
      checkNetworkPolicy(tagged.object, report);
      break;
    case 'ClusterNetworkPolicy':
      checkClusterNetworkPolicy(tagged.object, report);
      break;
    case 'AdminNetworkPolicy':
      checkAdminNetworkPolicy(tagged.object, report);
      break;
    case 'BaselineAdminNetworkPolicy':
      checkBaselineAdminNetworkPolicy(tagged.object, report);
      break;
    case 'Deployment':
    case 'ReplicaSet':
    case 'StatefulSet':
    case 'DaemonSet':
      checkWorkload(tagged.object.spec, report);
      break;
    case 'Job':
      checkWorkload(tagged.object.spec, report);
      break;
    case 'CronJob':
    case 'ConfigMap':
    case 'Namespace':
      break;
  }
  return report.problems;
}
