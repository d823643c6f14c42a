package timelinetest

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"stemma/timeline"
)

func TestTmp(t *testing.T) {
	choices = append([]choice(nil), choices...)
	keep := choices[:0]
	for _, c := range choices {
		if c.weight == 3 && len(keep) > 10 { // flush
			continue
		}
		keep = append(keep, c)
	}
	choices = keep
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	to, _ := strconv.Atoi(os.Getenv("TO"))
	for seed := from; seed <= to; seed++ {
		m, err := NewModel(Config{Seed: uint64(seed), Steps: 600, Tune: func(o *timeline.Options) {
			o.MemlayerBytes = 1 << 40
			o.WALFlushBytes = 1 << 40
			o.WALStopBytes = 1 << 40
		}})
		if err != nil {
			t.Fatal(err)
		}
		m.manual = false
		err = m.Run()
		if err != nil {
			t.Errorf("%v", err)
		}
		if seed == to {
			fmt.Println(m.Coverage())
		}
		m.Close()
	}
}
