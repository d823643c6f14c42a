// Package benchmarks holds what measures Stemma.
//
// stemma bench is made of these packages:
//
//	load        drives a workload: closed and open loop, percentiles, rounds
//	s3load      S3 requests as workloads, for any endpoint
//	limits      what the machine can do without Stemma, as workloads
//	report      rows, machine facts, table, JSON, ratios with confidence
//	suite       puts them together
//	storeload   forks, swarms, chains, the past, pages, merges, long lists, collection, recovery, soak
//
// The rest are programs, one in each folder. They take what they need as flags, use fixed seeds, and check what
// they read. make figures runs all of them.
//
//	churn       a thousand forks made, changed and deleted: what stays on the disk
//	httpget     reads over HTTP in a root and in a fork of depth 100
//	merge       a large merge: how long it takes, and how long it has writers to the target wait
//	page        a page with plots of what stemma bench wrote
//	overwrite   the same objects written again and again: disk use, write amplification
//	stream      a 5 GiB object in and out, and the server's memory
//	tail        p99 of puts and gets beside background work
package benchmarks
