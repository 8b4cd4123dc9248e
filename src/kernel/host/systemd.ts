/** Reports our state to the service manager; see native/index.ts. */
export { sdNotify } from '../../../native/index.ts';
