// Package storeload measures what a store does beside answering single requests:
// what stemma bench log, forks, swarm, chain, past, pages, diff, merge, list, reclaim, recovery and soak run.
//
// Each workload is a struct of its sizes; Run makes what it needs in a folder of its
// own, which it removes, and returns rows. Some are on the engine, in this process,
// where a call takes microseconds; the others are on a server of its own program.
//
//	Log       engine           durable commits of many writers, and of the log without an engine
//	Forks     engine, server   creation against number of forks and objects; memory; restart
//	Swarm     server           agents that fork, read, write, list, and drop or merge
//	Chain     engine           reads at the end of forks of forks
//	Past      engine           reads of the past beside reads of the tip
//	Pages     server           reads and writes of pages: one by one, in batches, over a stream
//	Diff      server           a fork against its source, by changes
//	Merge     server           merges, rebases and reverts, by changes
//	List      engine, server   lists of millions of keys; memory under a limit
//	Reclaim   server           bytes given back after forks were dropped, and who waits for it
//	Recovery  server           time from kill -9 to ready
//	Soak      server           memory, disk and latency over time
//
// Rows named after a limit's place (Row.Limit) are beside what was measured in
// interleaved rounds: the disk's synced write for a fork and for a group of the log, a bucket that is no fork for
// a chain, the tip for the past.
package storeload
