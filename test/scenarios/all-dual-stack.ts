// Every scenario that needs both families, with `meshd --ipv6`: one group of scenarios.
import { after } from 'node:test';
import { closeProbes } from './shared.ts';
import './dual-stack.ts';
import './families.ts';
import './access.ts';
import './firewalls.ts';

after(closeProbes);
