// Scenarios of published ports on the standard path (fast path `off`): one group of scenarios.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './preflight.ts';
import './publish.ts';
import './balancing.ts';
import './flows.ts';
import './health.ts';
import './on-demand.ts';

after(closeProbes);
