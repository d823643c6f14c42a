package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says which packages of this module a package may import: those it
// names, and whatever those may import. Imports point downward only
// (HOUSE-STYLE, "Who imports whom"). A package that is missing here is an error.
var mayImport = map[string][]string{
	"stemma/internal/seeds":        {},
	"stemma/wal/storefs":           {},
	"stemma/wal":                   {"stemma/wal/storefs"},
	"stemma/layers":                {"stemma/wal"},
	"stemma/gc":                    {"stemma/layers"},
	"stemma/timeline":              {"stemma/gc"},
	"stemma/timeline/timelinetest": {"stemma/timeline"},
	"stemma/pageserver/keyring":    {},
	"stemma/pageserver/policy":     {},
	"stemma/pageserver/auth":       {"stemma/timeline", "stemma/pageserver/keyring", "stemma/pageserver/policy"},
	"stemma/pageserver/identity":   {"stemma/pageserver/auth"},
	"stemma/pageserver/iam":        {"stemma/pageserver/identity"},
	"stemma/pageserver/object":     {"stemma/timeline", "stemma/pageserver/keyring", "stemma/pageserver/policy"},
	"stemma/pageserver/s3api":      {"stemma/pageserver/object", "stemma/pageserver/iam"},
	"stemma/pageserver":            {"stemma/pageserver/s3api"},
	"stemma/tools":                 {"stemma/timeline"},
	"stemma/client":                {"stemma/pageserver"}, // in tests
	"stemma/mount":                 {"stemma/client"},
	"stemma/cmd/stemma":            {"stemma/pageserver", "stemma/client", "stemma/mount", "stemma/tools", "stemma/benchmarks/suite", "stemma/benchmarks/storeload"},

	"stemma/benchmarks/load":            {},
	"stemma/benchmarks/report":          {"stemma/benchmarks/load"},
	"stemma/benchmarks/s3load":          {"stemma/benchmarks/load"},
	"stemma/benchmarks/limits":          {"stemma/benchmarks/load"},
	"stemma/benchmarks/internal/server": {},
	"stemma/benchmarks/suite": {
		"stemma/benchmarks/report", "stemma/benchmarks/s3load", "stemma/benchmarks/limits", "stemma/benchmarks/internal/server",
	},
	"stemma/benchmarks/internal/engine": {"stemma/timeline"},
	"stemma/benchmarks/storeload": {
		"stemma/benchmarks/report", "stemma/benchmarks/s3load", "stemma/benchmarks/limits", "stemma/benchmarks/internal/server",
		"stemma/benchmarks/internal/engine", "stemma/pageserver/object", "stemma/client",
	},
}

// benchmarks may import anything that is exported, and nobody imports it, but for
// the packages that mayImport names: they keep to it, since stemma bench is made of
// them. Their tests may import anything too.
const benchmarks = "stemma/benchmarks"

// testHelpers may be imported by the tests of any package, whatever mayImport says; package client imports nothing
// of the house but in tests.
var testHelpers = []string{"stemma/timeline/timelinetest", "stemma/internal/seeds", "stemma/client"}

// onlyIn names the packages that alone, with what lies below their folder, may
// import a library outside of tests.
var onlyIn = map[string][]string{
	"github.com/cockroachdb/pebble/v2":  {"stemma/timeline", "stemma/benchmarks/limits"}, // the catalog; vfs is free
	"github.com/ncw/directio":           {"stemma/wal/storefs"},
	"github.com/valyala/fasthttp":       {"stemma/pageserver", benchmarks},
	"github.com/schollz/progressbar/v3": {"stemma/cmd"},
	"github.com/spf13/cobra":            {"stemma/cmd", "stemma/tools"},
	"github.com/minio/minio-go/v7":      {"stemma/client", "stemma/cmd", benchmarks},
	"github.com/hanwen/go-fuse/v2/fuse": {"stemma/mount"},
	"github.com/hanwen/go-fuse/v2/fs":   {"stemma/mount"},
	"github.com/aws/aws-sdk-go-v2/aws":  {},

	"github.com/HdrHistogram/hdrhistogram-go": {benchmarks},
	"gonum.org/v1/plot":                       {benchmarks + "/page"}, // heavy: never in the server
}

// openFiles are the packages that may open files themselves; all others go
// through the vfs.FS that they are given. Package os has more than files, so
// only the functions of fileCalls count.
var (
	openFiles = []string{"stemma/cmd", "stemma/tools", "stemma/mount", benchmarks, "stemma/wal/storefs"}
	fileCalls = []string{"Open", "OpenFile", "OpenRoot", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir", "Remove",
		"RemoveAll", "Rename", "Link", "Symlink", "Mkdir", "MkdirAll", "MkdirTemp", "Truncate", "Stat", "Lstat", "NewFile"}
)

// pure packages do no I/O: none of these outside of tests.
var pure = map[string][]string{
	"stemma/gc": {"os", "github.com/cockroachdb/pebble/v2/vfs", "stemma/wal/storefs", "net", "io/fs"},
}

// closure returns what pkg may import.
func closure(pkg string) map[string]bool {
	all := make(map[string]bool)
	var add func(p string)
	add = func(p string) {
		for _, q := range mayImport[p] {
			if !all[q] {
				all[q] = true
				add(q)
			}
		}
	}
	add(pkg)
	return all
}

// below reports whether package p is one of dirs or in a folder below one.
func below(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}

// checkFiles returns what is wrong with the calls of package os in a file, or "".
func checkFiles(pkg string, f *ast.File, test bool) (msg string) {
	if test || below(pkg, openFiles...) || strings.HasSuffix(pkg, "test") {
		return ""
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == "os" && slices.Contains(fileCalls, sel.Sel.Name) {
				msg = fmt.Sprintf("%s calls os.%s: only wal/storefs opens files", pkg, sel.Sel.Name)
			}
		}
		return msg == ""
	})
	return msg
}

// checkImport returns what is wrong with an import, or "".
func checkImport(pkg, imported string, test bool) string {
	_, ok := mayImport[pkg]
	if below(pkg, benchmarks) && (!ok || test) {
		return ""
	}
	if !ok {
		return fmt.Sprintf("%s is not in the import graph: add it to mayImport", pkg)
	}
	if strings.HasPrefix(imported, "stemma/") {
		if imported == pkg || closure(pkg)[imported] || (test && slices.Contains(testHelpers, imported)) {
			return ""
		}
		return fmt.Sprintf("%s imports %s, which is not below it", pkg, imported)
	}
	if test || strings.HasSuffix(pkg, "test") {
		return ""
	}
	if slices.Contains(pure[pkg], imported) {
		return fmt.Sprintf("%s does no I/O and imports %s", pkg, imported)
	}
	if homes, ok := onlyIn[imported]; ok && !below(pkg, homes...) {
		return fmt.Sprintf("%s imports %s, which is for %q only", pkg, imported, homes)
	}
	return ""
}

func TestImportGraph(t *testing.T) {
	root := moduleRoot(t)
	seen := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		seen++
		rel, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg, test := path.Join("stemma", filepath.ToSlash(rel)), strings.HasSuffix(name, "_test.go")
		if msg := checkFiles(pkg, f, test); msg != "" {
			t.Errorf("%s: %s", filepath.Join(rel, d.Name()), msg)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if msg := checkImport(pkg, imported, test); msg != "" {
				t.Errorf("%s: %s", filepath.Join(rel, d.Name()), msg)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d Go files below %s", seen, root)
	}
}

// TestImportRules checks that the checker finds what it is for.
func TestImportRules(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		test, ok      bool
	}{
		{"stemma/timeline", "stemma/layers", false, true},
		{"stemma/layers", "stemma/timeline", false, false},
		{"stemma/layers", "stemma/timeline", true, false},
		{"stemma/layers", "stemma/timeline/timelinetest", true, true},
		{"stemma/gc", "stemma/timeline", false, false},
		{"stemma/gc", "os", false, false},
		{"stemma/pageserver/object", "stemma/pageserver/s3api", false, false},
		{"stemma/pageserver/object", "github.com/cockroachdb/pebble/v2", false, false},
		{"stemma/pageserver/s3api", "github.com/valyala/fasthttp", false, true},
		{"stemma/timeline", "github.com/valyala/fasthttp", false, false},
		{"stemma/tools", "stemma/pageserver", false, false},
		{"stemma/benchmarks/anything", "stemma/pageserver/object", false, true},
		{"stemma/timeline", "stemma/benchmarks/anything", true, false},
		{"stemma/benchmarks/report", "stemma/benchmarks/load", false, true},
		{"stemma/benchmarks/load", "stemma/benchmarks/report", false, false},
		{"stemma/benchmarks/report", "stemma/pageserver", false, false},
		{"stemma/benchmarks/report", "stemma/pageserver", true, true},
		{"stemma/benchmarks/limits", "github.com/cockroachdb/pebble/v2", false, true},
		{"stemma/benchmarks/suite", "github.com/cockroachdb/pebble/v2", false, false},
		{"stemma/pageserver", "stemma/benchmarks/suite", false, false},
		{"stemma/cmd/stemma", "stemma/benchmarks/suite", false, true},
		{"stemma/unheard/of", "fmt", false, false},
	} {
		if msg := checkImport(c.pkg, c.imported, c.test); (msg == "") != c.ok {
			t.Errorf("%s imports %s (test %v): %q", c.pkg, c.imported, c.test, msg)
		}
	}
}

// TestFileRule checks that the checker finds a file that is opened in the wrong place.
func TestFileRule(t *testing.T) {
	src := "package p\nimport \"os\"\nvar a = os.ErrNotExist\nvar b, c = os.Open(\"x\")\n"
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for pkg, want := range map[string]bool{"stemma/layers": false, "stemma/wal/storefs": true, "stemma/tools": true} {
		if msg := checkFiles(pkg, f, false); (msg == "") != want {
			t.Errorf("%s opens a file: %q", pkg, msg)
		}
	}
}

// TestTopLevel pins what the repository's top level holds.
func TestTopLevel(t *testing.T) {
	want := []string{"ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "benchmarks", "client", "cmd", "docs", "gc",
		"go.mod", "go.sum", "internal", "layers", "mount", "pageserver", "staticcheck.conf", "timeline", "tools", "wal"}
	made := []string{"bin", "stemma-data"} // by make build and make run
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(made, e.Name()) {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("top level holds\n%q, want\n%q", got, want)
	}
}

// moduleRoot returns the folder of go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
