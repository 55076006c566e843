//go:build tools

// Package tools pins what the rig builds: the pack command.
package tools

import _ "github.com/buildpacks/pack"
