// Tasks replaced under load, and kernels damaged by chance: the scenarios of a third boot.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './rolling.ts';
import './torture.ts';

after(closeProbes);
