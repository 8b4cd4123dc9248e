// Every scenario of the mesh in one boot of the test host; the order matters only for speed.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './preflight.ts';
import './refusals.ts';
import './resilience.ts';
import './repair.ts';
import './repair-times.ts';
import './torture.ts';
import './upgrade.ts';
import './health.ts';
import './trace.ts';
import './rolling.ts';
import './flows.ts';
import './publish.ts';
import './removal.ts';

after(closeProbes);
