/** What of a socket is needed to count it. */
interface Connection {
  destroy(): unknown;
  once(event: 'close', listener: () => void): unknown;
}

/**
 * Counts open connections by their source, and closes a new one of a source that has `limit` of them, so that no source
 * uses up those of the others. To be called once for each accepted connection.
 */
export function createConnectionLimit(limit: number): (connection: Connection, source: string) => void {
  const counts = new Map<string, number>();
  return (connection, source) => {
    const count = counts.get(source) ?? 0;
    if (count >= limit) {
      connection.destroy();
      return;
    }
    counts.set(source, count + 1);
    connection.once('close', () => {
      const left = counts.get(source)! - 1;
      if (left > 0) counts.set(source, left);
      else counts.delete(source);
    });
  };
}
