// Package load drives a Workload from many workers and says how fast it went.
//
// # Closed and open loop
//
// In a closed loop each of the workers starts its next operation when the last
// one has ended, so a server that stalls is asked less: the rate is what can be
// had, the latency is what a patient client sees. In an open loop operations are
// meant to start at a fixed rate, whatever the server does, and latency counts
// from the moment an operation was meant to start: time that it waited for a free
// worker counts, so a stall shows in every operation that should have started in
// it (no coordinated omission). Workers bound how many are under way at once.
//
// # What is counted
//
//	        warm-up           measured
//	|---------------------|--------------|
//	                      start          stop
//
// Rates count what ended between start and stop, so that operations cut at the
// one end make up for those cut at the other. Latencies are of all operations
// that began, or were meant to begin, between start and stop, and those that end
// later are waited for. With a number of operations instead of a duration, stop is
// the end of the last one.
//
// Latencies go into HdrHistograms of three digits, one set for each worker up to
// maxShards, so memory does not grow with the run.
package load
