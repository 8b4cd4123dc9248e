// Basic functions and recovery: one group of scenarios; their order only matters for speed.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './rejections.ts';
import './resilience.ts';
import './repair.ts';
import './trace.ts';
import './source-routing.ts';
import './repair-times.ts';
import './upgrade.ts';
import './removal.ts';

after(closeProbes);
