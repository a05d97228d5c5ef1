internal import Glibc

// The toolchain's libFuzzer: it calls `callback` with one input after the other.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// The target that this process runs. Set once, before the driver starts; the driver has one thread.
nonisolated(unsafe) private var selected = FuzzTarget.all[0]

/// libFuzzer's own main refers to it, though SwiftPM puts this file's in that one's place.
@_cdecl("LLVMFuzzerTestOneInput")
func runOne(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    selected.run(Array(UnsafeBufferPointer(start: data, count: count)))
    return 0
}

let names = FuzzTarget.all.map(\.name)
if CommandLine.arguments.count == 2, CommandLine.arguments[1] == "--list" {
    for name in names { print(name) }
    exit(0)
}
guard CommandLine.arguments.count >= 2,
    let target = FuzzTarget.all.first(where: { $0.name == CommandLine.arguments[1] })
else {
    print("usage: fuzz TARGET [LIBFUZZER-OPTION…] [CORPUS…]; targets: \(names.joined(separator: ", "))")
    exit(2)
}
selected = target

// The driver sees the arguments without the target's name.
var arguments = CommandLine.unsafeArgv
arguments[1] = arguments[0]
arguments += 1
var argumentCount = CommandLine.argc - 1
exit(runDriver(&argumentCount, &arguments) { runOne($0, $1) })
