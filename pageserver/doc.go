// Package pageserver is the server: it joins the store, the objects over it,
// the S3 listener and the admin listener, and takes them apart again in order.
//
// Start first listens on both addresses, so that a taken port is known at
// once, then answers /health/live while the store recovers, and at last serves
// S3. Shutdown goes the other way: not ready, S3 drained, store closed, file
// system closed, admin listener closed.
//
// # The admin listener
//
//	GET /health/live    200 as long as the process answers
//	GET /health/ready   200 when S3 is served and the store takes writes; else 503 and why
//	GET /metrics        Prometheus text: requests, store, log, process
//
// Below /v1 lies the administration, JSON, signed by the root key as for S3:
//
//	POST /v1/gc?mode=full|plan            collect all garbage, or say what it is
//	GET  /v1/usage[?bucket=NAME]          what the store holds, and for whom
//	GET  /v1/buckets/NAME/retention       {"window":"24h"}; PUT sets it
//	GET  /v1/background                   {"share":50}; PUT sets it, until the next start
//	GET  /v1/deleted                      buckets that can be undeleted
//	POST /v1/deleted/ID/undelete          {"name":"..."}
//	GET  /v1/profile?kind=cpu[&seconds=10] a profile of the process; also block, mutex, heap, allocs, goroutine
package pageserver
