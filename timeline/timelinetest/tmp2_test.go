package timelinetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestTmp2(t *testing.T) {
	env := func(n string, d int) int {
		if v, err := strconv.Atoi(os.Getenv(n)); err == nil {
			return v
		}
		return d
	}
	fails := 0
	for seed := env("FROM", 1); seed <= env("TO", 1); seed++ {
		m, err := NewModel(Config{Seed: uint64(seed), Steps: env("STEPS", 600)})
		if err != nil {
			t.Fatal(err)
		}
		err = m.Run()
		if err == nil {
			m.Close()
			continue
		}
		fails++
		if os.Getenv("FULL") != "" {
			fmt.Println(err)
		} else {
			fmt.Println(strings.SplitN(err.Error(), "last oper", 2)[0])
		}
		m.Close()
	}
	fmt.Println("fails", fails)
}
