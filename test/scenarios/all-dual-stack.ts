// Every scenario that wants both families, in one boot of the test host with `meshd --ipv6`.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './dual-stack.ts';
import './access.ts';
import './firewalls.ts';

after(closeProbes);
