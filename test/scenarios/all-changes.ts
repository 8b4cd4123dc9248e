// Tasks replaced under load, and random damage to kernel state: one group of scenarios.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './rolling.ts';
import './torture.ts';

after(closeProbes);
