// Command page makes one page, with plots, of results that stemma bench wrote as JSON.
//
//	go run ./benchmarks/page -out bench.html limits.json s3.json ab.json
//
// It is a program of its own because gonum/plot brings 19 MiB of fonts and code,
// which take 15 MiB of memory in every process: too much for a server.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"

	"stemma/benchmarks/report"
)

var out = flag.String("out", "bench.html", "file to write")

func main() {
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(out string, files []string) error {
	if len(files) == 0 {
		return errors.New("name the files that stemma bench wrote with --json")
	}
	var all []*report.Report
	for _, name := range files {
		r, err := read(name)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(writePage(f, all), f.Close())
}

func read(name string) (*report.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := report.ReadJSON(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
