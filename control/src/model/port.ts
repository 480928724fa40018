/**
 * Port numbers and transport protocols, as every kind that has ports spells them.
 */

import { type Static, Type } from '@sinclair/typebox';
import { oneOf } from './schema.ts';

export const Protocol = oneOf(['TCP', 'UDP', 'SCTP'], 'TCP');
export type Protocol = Static<typeof Protocol>;

const A_PORT = 'a port (1 to 65535)';

export const PortNumber = Type.Integer({ minimum: 1, maximum: 65535, title: A_PORT });
/** A port that may be left out: 0 is none. */
export const PortOrNone = Type.Integer({ default: 0, minimum: 0, maximum: 65535, title: A_PORT });
