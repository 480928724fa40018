/** core/v1 Endpoints, the older form of EndpointSlices; mirrored into slices (cluster/endpoints-mirror.ts). */

import { type Static, Type } from '@sinclair/typebox';
import { ObjectMeta } from './metadata.ts';
import { PortNumber, Protocol } from './port.ts';

const EndpointAddress = Type.Object({
  ip: Type.String(),
  hostname: Type.Optional(Type.String()),
  nodeName: Type.Optional(Type.String()),
  targetRef: Type.Optional(
    Type.Object({
      kind: Type.Optional(Type.String()),
      namespace: Type.Optional(Type.String()),
      name: Type.Optional(Type.String()),
    }),
  ),
});
export type EndpointAddress = Static<typeof EndpointAddress>;

export const EndpointsSchema = Type.Object({
  apiVersion: Type.String(),
  kind: Type.Literal('Endpoints'),
  metadata: ObjectMeta,
  subsets: Type.Array(
    Type.Object({
      addresses: Type.Array(EndpointAddress, { default: [] }),
      notReadyAddresses: Type.Array(EndpointAddress, { default: [] }),
      ports: Type.Array(Type.Object({ name: Type.String({ default: '' }), port: PortNumber, protocol: Protocol }), {
        default: [],
      }),
    }),
    { default: [] },
  ),
});
export type Endpoints = Static<typeof EndpointsSchema>;
