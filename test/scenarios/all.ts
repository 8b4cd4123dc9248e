// What a mesh is for, and what it survives: the scenarios of one boot; the order matters only for speed.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './rejections.ts';
import './resilience.ts';
import './repair.ts';
import './trace.ts';
import './repair-times.ts';
import './upgrade.ts';
import './removal.ts';

after(closeProbes);
