import LinuxSystem
import ServiceSupport
import Testing

@Suite struct `The fence around the file system` {
    private static let hasLandlock: Bool = if case .version = FileSystemFence.Support.ofKernel { true } else { false }
    private static let version: Int =
        if case .version(let number) = FileSystemFence.Support.ofKernel { number } else { 0 }

    private static func run(_ arguments: String...) throws -> [String] {
        let folder = try TemporaryFolder()
        try folder.makeFolder("open")
        try folder.makeFolder("closed")
        for name in ["open/file", "closed/file", "closed/single"] { try folder.write(name, "text") }
        let ran = try Helper.run(
            ["fence", folder.path] + arguments,
            shell: "ln -s '\(folder.path)/closed/file' '\(folder.path)/open/link'; \"$@\"")
        #expect(ran.exit == .exited(status: 0), "\(ran)")
        return ran.output
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"), arguments: ["here", "thread"])
    func `lets through what a rule names and refuses all else, also in later threads`(place: String) throws {
        let lines = try Self.run()
        for line in [
            "read open ok", "write open ok", "create open ok", "read closed EACCES", "read single ok",
            "write single EACCES", "create closed EACCES", "unlink closed EACCES", "follow link EACCES",
            "list closed EACCES",
        ] {
            #expect(lines.contains("\(place): \(line)"), "\(lines)")
        }
        // EXDEV before version 2, EACCES since.
        #expect(!lines.contains("\(place): rename out ok"), "\(lines)")
        if Self.version >= 3 { #expect(lines.contains("\(place): truncate closed EACCES"), "\(lines)") }
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `leaves open descriptors as they are and holds for programs that are started`() throws {
        let lines = try Self.run()
        #expect(lines.contains("opened before: read 4"), "\(lines)")
        #expect(lines.contains("program refused"), "\(lines)")
        #expect(lines.contains("no_new_privs true"), "\(lines)")
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `tells of rules whose paths are not there`() throws {
        let lines = try Self.run()
        #expect(lines.contains { $0.hasPrefix("entered true missing [") && $0.contains("absent") }, "\(lines)")
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `keeps out of processes outside`() throws {
        let lines = try Self.run()
        #expect(lines.contains("look into parent EACCES"), "\(lines)")
        // Who looks for holders of a file from inside must not take what is hidden for nothing.
        #expect(lines.contains("parent is unseen true"), "\(lines)")
        #expect(lines.contains("signal self ok"), "\(lines)")
        if Self.version >= 6 { #expect(lines.contains("signal parent EPERM"), "\(lines)") }
    }

    @Test(.enabled(if: hasLandlock, "this kernel has no Landlock"))
    func `within another gives only what both give`() throws {
        let lines = try Self.run("twice")
        #expect(lines.contains("entered again"))
        for line in ["read open ok", "write open EACCES", "read closed EACCES", "read single ok"] {
            #expect(lines.contains("here: \(line)"), "\(lines)")
        }
    }

    @Test func `knows of each version what it can refuse`() {
        #expect(FileSystemFence.Access.keep.contains(.refer))
        if case .absent(let error) = FileSystemFence.Support.ofKernel {
            // Not built in, switched off, or hidden by a filter around the tests.
            #expect(["ENOSYS", "EOPNOTSUPP", "EPERM"].contains(error.errno.name))
        } else {
            #expect(Self.version >= 1)
        }
    }
}
