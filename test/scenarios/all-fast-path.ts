// The way in once more, with `meshd --fast-path full`, and what is special about that.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './ingress.ts';
import './fast-path.ts';

after(closeProbes);
