// Tasks replaced under load, nodes whose network changes, and random damage to kernel state: one group of scenarios.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './rolling.ts';
import './nodes.ts';
import './torture.ts';

after(closeProbes);
