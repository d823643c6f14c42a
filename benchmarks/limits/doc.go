// Package limits measures what no server on this machine can pass: the disk, the
// HTTP server that Stemma uses with nothing behind it, and Pebble with synced
// writes. A figure of Stemma is given as a part of the limit beside it.
//
//	sequential write   1 MiB O_DIRECT writes, 4 under way, on blocks written before
//	write + sync       one O_DIRECT write and fdatasync after the other, on blocks
//	                   written before: what a log with groups of that size can do
//	random read        4 KiB O_DIRECT reads at depth 1 and 32
//	pebble             Set with Sync from 1, 8 and 64 writers
//	bare               a fasthttp server in a process of its own that answers any
//	                   request at once, and every get with bytes of the size asked
//	                   for; the same signed client as for Stemma
//
// All are workloads of package load.
package limits
