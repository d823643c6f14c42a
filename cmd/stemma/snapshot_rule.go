package main

import (
	"fmt"
	"strconv"
	"strings"

	"stemma/client"
)

// ruleFlags are rules for snapshots: NAME:every=D[,keep-for=D][,keep-last=N], or none.
type ruleFlags []client.SnapshotRule

func (f *ruleFlags) Set(text string) error {
	if text == "none" {
		*f = ruleFlags{}
		return nil
	}
	name, fields, _ := strings.Cut(text, ":")
	r := client.SnapshotRule{Name: name}
	for _, field := range strings.Split(fields, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "every":
			r.Every = value
		case "keep-for":
			r.KeepFor = value
		case "keep-last":
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("keep-last=%s: want a number", value)
			}
			r.KeepLast = n
		default:
			return fmt.Errorf("%q: want NAME:every=1h,keep-for=48h,keep-last=10, or none", text)
		}
	}
	*f = append(*f, r)
	return nil
}

func (f *ruleFlags) String() string {
	var list []string
	for _, r := range *f {
		list = append(list, ruleText(r))
	}
	return strings.Join(list, " ")
}

func (f *ruleFlags) Type() string { return "rule" }

func ruleText(r client.SnapshotRule) string {
	s := r.Name + ":every=" + r.Every
	if r.KeepFor != "" {
		s += ",keep-for=" + r.KeepFor
	}
	if r.KeepLast != 0 {
		s += ",keep-last=" + strconv.Itoa(r.KeepLast)
	}
	return s
}
