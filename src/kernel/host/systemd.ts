/** Tells the service manager about our state; see native/index.ts. */
export { sdNotify } from '../../../native/index.ts';
