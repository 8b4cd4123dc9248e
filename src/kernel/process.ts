/** Processes and sockets in a netns, for the rooms that start tasks and serve DNS; the kernel room alone imports `native`. */
export {
  bindSocket,
  inNetns,
  openSocket,
  type ProcessWatch,
  processStartTime,
  type SocketOptions,
  signalProcess,
  taskShimPath,
  watchProcess,
} from '../../native/index.ts';
