/**
 * What Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs have in common for a pod: a selector, a template.
 */

import { Type } from '@sinclair/typebox';
import { LabelSelector } from './label-selector.ts';
import { PodTemplate } from './pod.ts';

export const Replicas = Type.Integer({ default: 1, minimum: 0, title: 'a number of replicas (0 or more)' });

export const Selector = Type.Optional(LabelSelector);

/** Fields that every workload's spec has. */
export const workloadFields = { selector: Selector, template: PodTemplate };
