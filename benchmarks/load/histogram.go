package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxShards bounds the sets of histograms; workers beyond it share them.
const maxShards = 32

// Latencies are kept in nanoseconds; what is longer counts as maxLatency.
const (
	minLatency = 100 * time.Nanosecond
	maxLatency = 10 * time.Minute
	digits     = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(minLatency), int64(maxLatency), digits)
}

func recordLatency(h *hdrhistogram.Histogram, d time.Duration) {
	if err := h.RecordValue(int64(min(max(d, 0), maxLatency))); err != nil {
		panic(err) // within the bounds: cannot be
	}
}

// shard gathers what some workers did.
type shard struct {
	mu      sync.Mutex
	ops     int64
	units   int64
	bytes   int64
	errors  int64
	first   string // error
	all     *hdrhistogram.Histogram
	classes []*hdrhistogram.Histogram
}

func newShard(classes int) *shard {
	s := &shard{all: newHistogram(), classes: make([]*hdrhistogram.Histogram, classes)}
	for i := range s.classes {
		s.classes[i] = newHistogram()
	}
	return s
}

// record enters an operation; its latency if timed, its work if counted. One that
// failed counts as an error only: a fast error is no fast operation.
func (s *shard) record(d Done, err error, latency time.Duration, timed, counted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if timed || counted {
			s.errors++
		}
		if s.first == "" {
			s.first = err.Error()
		}
		return
	}
	if counted {
		s.ops++
		s.units += max(d.Units, 1)
		s.bytes += d.Bytes
	}
	if timed {
		recordLatency(s.all, latency)
		if len(s.classes) > 0 {
			recordLatency(s.classes[d.Class], latency)
		}
	}
}

// Percentiles are latencies. A percentile p is the latency that p percent of the
// operations did not exceed.
type Percentiles struct {
	P50, P90, P99, P999, Max time.Duration
	Count                    int64
}

// PercentilesOf reads the percentiles off a histogram of nanoseconds.
func PercentilesOf(h *hdrhistogram.Histogram) Percentiles {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) }
	return Percentiles{
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: time.Duration(h.Max()), Count: h.TotalCount(),
	}
}
