// Package tools holds the commands of `stemma tool`: they look into the files
// of a stopped store with the decoders of the server, and change nothing.
//
//	tool wal dump DIR       segments, groups, and the commits that a start would replay
//	tool wal verify DIR     the chain of groups, and every commit
//	tool layer dump FILE    description and records of one layer file
//	tool layer verify FILE  every block, the order, index, filter and counts of one layer file
//	tool values verify DIR  every stored value that layers and log refer to
//	tool catalog dump DIR   every row
//	tool tree DIR           the timelines, drawn by ancestry
//	tool check DIR          all of it, and rows against files; reports everything it finds
//
// DIR is the data directory. A store that a process has open is refused.
package tools
