// The shortcut, tasks replaced under load and kernels damaged by chance: the scenarios of a boot with `--shortcut full`.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './shortcut.ts';
import './rolling.ts';
import './torture.ts';

after(closeProbes);
