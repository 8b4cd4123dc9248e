/** Processes and sockets in a netns, for the rooms that start tasks and serve DNS; the kernel room alone imports `native`. */
export {
  bindSocket,
  openSocket,
  processStartTime,
  spawnProcess,
  taskShimPath,
  watchProcess,
} from '../../../native/index.ts';
