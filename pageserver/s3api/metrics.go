package s3api

import (
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// requestMetrics are the numbers of a server. Their labels are names of
// operations and statuses, never of buckets.
type requestMetrics struct {
	set            *metrics.Set
	sent, received *metrics.Counter

	counters sync.Map // of counterID to *metrics.Counter
	seconds  sync.Map // of operation name to *metrics.Histogram
}

type counterID struct {
	operation string
	status    int
}

func (m *requestMetrics) init(set *metrics.Set, inFlight func() float64) {
	m.set = set
	m.sent = set.GetOrCreateCounter("stemma_s3_sent_bytes_total")
	m.received = set.GetOrCreateCounter("stemma_s3_received_bytes_total")
	set.GetOrCreateGauge("stemma_s3_requests_in_flight", inFlight)
}

// observe counts a request that was answered with status after d.
func (m *requestMetrics) observe(operation string, status int, d time.Duration) {
	id := counterID{operation, status}
	c, ok := m.counters.Load(id)
	if !ok {
		name := `stemma_s3_requests_total{operation="` + operation + `",status="` + strconv.Itoa(status) + `"}`
		c, _ = m.counters.LoadOrStore(id, m.set.GetOrCreateCounter(name))
	}
	c.(*metrics.Counter).Inc()
	h, ok := m.seconds.Load(operation)
	if !ok {
		name := `stemma_s3_request_seconds{operation="` + operation + `"}`
		h, _ = m.seconds.LoadOrStore(operation, m.set.GetOrCreateHistogram(name))
	}
	h.(*metrics.Histogram).Update(d.Seconds())
}
