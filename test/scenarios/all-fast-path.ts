// Ingress scenarios with the fast path in mode `full`, and scenarios specific to the fast path: one group of scenarios.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './fast-path.ts';
import './source-routing.ts';

after(closeProbes);
