// Package suite puts workloads, limits and reports together: what stemma bench runs.
//
// S3 measures an endpoint. A limit of each figure is measured in the same minutes,
// its rounds interleaved with those of the figure:
//
//	put below 32 KiB   bare Pebble, synced sets of the same size by as many writers
//	put from 32 KiB    the disk's sequential O_DIRECT write
//	get, head          a bare fasthttp server, the same client, as many workers
//
// AB measures two endpoints, or servers of two binaries, in interleaved rounds.
// While one of two own servers is measured the other is stopped (SIGSTOP), so that
// the work that it has put off does not fall on its rival.
//
// Limits measures the limits alone.
package suite
