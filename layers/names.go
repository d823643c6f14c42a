package layers

import (
	"fmt"
	"strconv"
)

const layerSuffix = ".layer"

// LayerName returns the name of a layer file within its directory.
func LayerName(num FileNum) string { return fmt.Sprintf("%016x%s", uint64(num), layerSuffix) }

// ParseLayerName is the inverse of LayerName; ok is false for any other name.
func ParseLayerName(name string) (num FileNum, ok bool) { return parseName(name, layerSuffix) }

// parseName parses 16 lowercase hex digits before suffix.
func parseName(name, suffix string) (FileNum, bool) {
	if len(name) != 16+len(suffix) || name[16:] != suffix {
		return 0, false
	}
	n, err := strconv.ParseUint(name[:16], 16, 64)
	if err != nil || fmt.Sprintf("%016x", n) != name[:16] {
		return 0, false
	}
	return FileNum(n), true
}
