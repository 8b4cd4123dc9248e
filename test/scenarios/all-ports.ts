// Published ports and what is behind them: the scenarios of a second boot, on the plain path (`meshd --fast-path off`).
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './preflight.ts';
import './publish.ts';
import './balancing.ts';
import './flows.ts';
import './health.ts';

after(closeProbes);
