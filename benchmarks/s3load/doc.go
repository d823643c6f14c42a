// Package s3load is S3 load for any endpoint: workloads for package load on a
// client that costs little itself.
//
// The client shares a machine with the server that it measures, so what it spends
// is taken from the server. It signs with Signature Version 4 from a cached key and
// does not retry: what fails is counted. Each worker has a session of its own, with
// buffers that it uses again and again.
//
// # Objects
//
// The body of object i is cut out of one random block, at an offset that follows
// from i; from largeBody bytes on all objects have the same body, whose hashes are
// computed once. So a get can be compared with what was put, byte by byte, without
// keeping anything. Keys are spread over 256 prefixes, "3f/g-0000000042".
//
// # Workloads
//
//	put          new objects
//	get, head    random ones of Config.Objects, put before
//	list         pages of 1,000 keys, one after the other, from a random prefix on
//	list-dirs    the 256 prefixes, with a delimiter
//	delete       one by one, until all of Config.Deletes are gone
//	delete-10    in batches of 10
//	delete-1000  in batches of 1,000
//	mixed        45 % get, 15 % put, 10 % delete, 30 % head
//
// Every workload has a bucket of its own, which Close empties and deletes.
//
// Agents, for Stemma only, is a swarm that forks, reads, writes, lists and drops. List
// lists a bucket that somebody else filled.
package s3load
