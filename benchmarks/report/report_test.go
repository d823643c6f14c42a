package report

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stemma/benchmarks/load"
)

var rewrite = flag.Bool("rewrite-golden", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs, got\n%s", name, got)
	}
}

// sample has every field set.
func sample() *Report {
	r := New(Machine{
		Date: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Commit: "0123456789ab", Go: "go1.26.0", Kernel: "Linux 6.1", CPU: "A CPU",
		Cores: 2, Memory: 8 << 30, FileSystem: "ext4 on /dev/vda", Load: 0.25,
	}, "stemma bench s3")
	put := Number("s3", "put 4 KiB", "op/s", false, 1000, 1100, 1250)
	put.SetLimit("write + sync", 2200)
	put.Latency = &Latency{500, 900, 2000, 5000, 12345.678, 3350}
	put.Classes = []ClassRow{{"put", *put.Latency}}
	put.Curve = []CurveStep{{0, 300}, {50, 500}, {75, 700}, {99, 2000}}
	put.SeriesAt = []float64{10, 20.5, 30}
	put.CPU, put.Errors, put.FirstError, put.Note = 110.5, 2, "500 InternalError", "the machine was busy"
	r.Add(put, Number("recovery", "after <kill> & start", "s", true, 1.5, 1.25))
	other := put
	other.Series = []float64{2000, 2100, 2200}
	other.Value = spread(load.SpreadOf(other.Series))
	r.Comparisons = append(r.Comparisons, Compare(&put, &other, 1))
	return r
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.Bytes())
	r, err := ReadJSON(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := r.WriteJSON(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("read and written again, the report differs: %v", err)
	}
	if _, err := ReadJSON(strings.NewReader(strings.Replace(b.String(), `"version": 1`, `"version": 2`, 1))); err == nil {
		t.Error("another version was accepted")
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.Bytes())
}

func TestFromResult(t *testing.T) {
	w := load.Workload{Name: "mixed", Unit: "op", Classes: []string{"x", "y"}, Op: func(_ context.Context, _ int, rng *rand.Rand) (load.Done, error) {
		return load.Done{Class: rng.IntN(2)}, nil
	}}
	res, err := load.Run(t.Context(), w, load.Options{Workers: 2, Ops: 2000, Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	row := FromResult("s3", &res)
	if row.Unit != "op/s" || len(row.Series) != 3 || row.Value.Rounds != 3 || row.Latency.Count != 6000 || len(row.Classes) != 2 || len(row.Curve) < 5 {
		t.Errorf("%+v", row)
	}
}

func TestRatio(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	series := func(mean, noise float64) []float64 {
		all := make([]float64, 11)
		for i := range all {
			all[i] = mean * (1 + noise*rng.NormFloat64())
		}
		return all
	}
	a := series(1000, 0.02)
	same, faster := RatioOf(a, series(1000, 0.02), 7), RatioOf(a, series(1500, 0.02), 7)
	if same.Differs() || same.Low > same.Median || same.High < same.Median {
		t.Errorf("same: %+v", same)
	}
	if !faster.Differs() || faster.Low < 1.4 || faster.High > 1.6 {
		t.Errorf("faster: %+v", faster)
	}
	if RatioOf(a, a, 3) != RatioOf(a, a, 3) {
		t.Error("the same seed gave another interval")
	}
	if r := RatioOf([]float64{0, 1}, []float64{1, 2}, 1); r != (Ratio{}) || r.Differs() {
		t.Errorf("a rate of zero: %+v", r)
	}
	if r := RatioOf([]float64{2}, []float64{4}, 1); r != (Ratio{2, 2, 2}) {
		t.Errorf("one round: %+v", r)
	}
}

// The interval must hold the true ratio about as often as it says.
func TestRatioCoverage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	held := 0
	const trials = 50
	for range trials {
		a, b := make([]float64, 15), make([]float64, 15)
		for i := range a {
			a[i], b[i] = 100+10*rng.NormFloat64(), 120+12*rng.NormFloat64()
		}
		if r := RatioOf(a, b, 1); r.Low <= 1.2 && 1.2 <= r.High {
			held++
		}
	}
	if held < 42 {
		t.Errorf("%d of %d intervals hold the ratio", held, trials)
	}
}

func TestMachine(t *testing.T) {
	m := MachineOf(t.TempDir())
	if m.Cores < 1 || m.Kernel == "" || m.FileSystem == "" || m.Memory == 0 || m.Date.IsZero() {
		t.Errorf("%+v", m)
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := Format(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
