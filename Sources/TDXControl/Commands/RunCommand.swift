internal import ArgumentParser
internal import CLinux
internal import LinuxSystem
internal import SystemPackage
internal import VMMTerms

/// Starts a VMM with the library that answers its TDX requests.
struct RunCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Runs a VMM, such as QEMU, with TDX emulated where the host has none. Needs no daemon.",
        usage: "tdxctl run [options] -- COMMAND ...",
        discussion: """
            The VMM must be dynamically linked: libtdxd-vmm.so is preloaded into it. No instruction of a guest is executed: \
            --guest chooses what its vCPUs do.

            Guests:
            \(GuestBehaviour.allCases.map { "  \($0.rawValue.padded(to: 10)) \($0.summary)" }.joined(separator: "\n"))
              FILE       a script of steps, one a line: a path with “/” in it; see docs/vmm.md

            At the end standard error tells what happened. The exit status is the VMM's own, or 1 where that is 0 and the guest \
            met what it did not expect, or something leaked. A VMM that a signal killed gives 128 and the signal's number.
            """)

    @Option(
        help: ArgumentHelp("When TDX is emulated: auto (where the host has none), always or never.", valueName: "when"),
        transform: { text in
            guard let emulation = VMMSettings.Emulation(rawValue: text) else {
                throw ValidationError("“\(printable(text))” is not auto, always or never")
            }
            return emulation
        })
    var emulate = VMMSettings.Emulation.auto

    @Option(help: ArgumentHelp("What the guest's vCPUs do: a name, or a script's path.", valueName: "name|file"))
    var guest = GuestBehaviour.idle.rawValue

    @Flag(help: "Send SIGTERM to the VMM once the guest's program has ended.")
    var endWithGuest = false

    @Option(
        help: ArgumentHelp("Keep the report, a line of JSON, in this file.", valueName: "path"), completion: .file(),
        transform: parsePath)
    var report: String?

    @Option(
        help: ArgumentHelp(
            "Record the software TDX module's calls in this new file, for “tdxctl trace replay”.", valueName: "path"),
        completion: .file(), transform: parsePath)
    var trace: String?

    @Option(
        help: ArgumentHelp("Where the guest's private memory is: automatic, guest_memfd or memfd.", valueName: "kind"))
    var backing = "automatic"

    @Option(
        help: ArgumentHelp("The library (default: beside tdxctl, or where the package has it).", valueName: "path"),
        completion: .file(), transform: parsePath)
    var library: String?

    @Argument(parsing: .postTerminator, help: "The VMM and its arguments, after “--”.")
    var command: [String] = []

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard !command.isEmpty else {
            throw ValidationError("a command is missing: tdxctl run [options] -- COMMAND ...")
        }
        guard guest.contains("/") || GuestBehaviour(rawValue: guest) != nil else {
            let known = GuestBehaviour.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("“\(printable(guest))” is no guest: that is \(known), or a path with “/” in it")
        }
        guard ["automatic", "guest_memfd", "memfd"].contains(backing) else {
            throw ValidationError("“\(printable(backing))” is not automatic, guest_memfd or memfd")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        try status(context) == 0 ? .ok : .failed
    }

    func status(_ context: Context) throws(Failure) -> Int32 {
        try checkScript(context)
        let program = try PreloadableProgram(command[0], path: context.variables["PATH"])
        let library = try findLibrary()
        let place = try ReportPlace(report)
        defer { place.remove() }
        var settings = VMMSettings()
        settings.emulate = emulate
        settings.guest = guest.contains("/") ? try absolute(guest) : guest
        settings.report = place.path
        settings.endsWithGuest = endWithGuest
        settings.trace = trace
        settings.backing = backing
        settings.isQuiet = true
        var environment = context.variables
        for (variable, value) in settings.variables { environment[variable.rawValue] = value }
        environment["LD_PRELOAD"] = ([library] + (environment["LD_PRELOAD"].map { [$0] } ?? [])).joined(separator: ":")
        let exit = try run(program.path, environment)
        let report = place.read()
        context.console.writeError(render(report, exit: exit, emulate: emulate, context.console.style))
        return Self.status(exit, report)
    }

    /// The VMM's own status counts most.
    static func status(_ exit: ProcessExit, _ report: EngineReport?) -> Int32 {
        switch exit {
        case .exited(let status) where status != 0: return status
        case .killed(let signal, _): return 128 + signal.rawValue
        case .exited: break
        }
        guard let report else { return 0 }
        return report.guest.failures.isEmpty && report.leaks?.isEmpty != false ? 0 : 1
    }

    // MARK: Before

    private func checkScript(_ context: Context) throws(Failure) {
        guard guest.contains("/") else { return }
        let text: String
        do throws(LinuxError) { text = try TextFile.read(guest) } catch {
            throw Failure(
                status: .usage, code: "guest_unreadable", message: "the guest \(guest) cannot be read: \(error)",
                hint: nil)
        }
        do throws(GuestScriptErrors) { _ = try GuestScript(parsing: text) } catch {
            for line in error.errors.prefix(20) { context.console.writeError("\(printable("\(guest): \(line)"))\n") }
            throw Failure(
                status: .usage, code: "guest_invalid",
                message: "the script \(guest) has \(error.errors.count) bad lines",
                hint: "docs/vmm.md describes the steps")
        }
    }

    private func absolute(_ path: String) throws(Failure) -> String {
        do { return try parsePath(path) } catch {
            throw Failure(status: .usage, code: "guest_unreadable", message: "\(error)", hint: nil)
        }
    }

    private func findLibrary() throws(Failure) -> String {
        let name = "libtdxd-vmm.so"
        let own = (try? ProgramFiles.own()).flatMap { path in path.lastIndex(of: "/").map { String(path[..<$0]) } }
        let places =
            library.map { [$0] }
            ?? (own.map { ["\($0)/\(name)"] } ?? []) + ["/usr/lib/x86_64-linux-gnu/\(name)", "/usr/lib/\(name)"]
        // A colon or a space would end the path where LD_PRELOAD is read.
        guard let found = places.first(where: { tdxd_access($0, 4) == 0 }) else {
            throw Failure(
                status: .failed, code: "no_library",
                message: "the library is not there: \(places.joined(separator: ", "))",
                hint: "the package installs it; --library names another place")
        }
        guard !found.contains(where: { $0 == ":" || $0 == " " }) else {
            throw Failure(
                status: .failed, code: "no_library",
                message: "“\(found)” has a colon or a space, which LD_PRELOAD takes for its end",
                hint: "--library names another place")
        }
        return found
    }

    // MARK: The VMM

    private func run(_ path: String, _ environment: [String: String]) throws(Failure) -> ProcessExit {
        do throws(LinuxError) {
            // From a terminal Ctrl-C goes to the VMM as well; what is sent to tdxctl alone is passed on.
            let signals = try SignalSource([.interrupt, .terminate, .hangUp, Signal(rawValue: 3)])
            let child = try ProgramStart(
                path: path, arguments: Array(command.dropFirst()),
                environment: environment.map { "\($0)=\($1)" }.sorted(),
                descriptors: Self.inherited(except: signals.descriptor.rawValue)
            ).start()
            while true {
                let hasEnded = try child.waitUntilEnded(milliseconds: 100)
                while let event = try signals.next() {
                    if event.senderPID != 0 { try? child.send(event.signal) }
                }
                if hasEnded { return try child.wait() }
            }
        } catch {
            throw Failure(
                status: .failed, code: "system", message: "\(path) cannot be run: \(error)", hint: nil)
        }
    }

    /// Descriptors that a program started from here would have without tdxctl between, under the same numbers.
    private static func inherited(except own: Int32) -> [(source: Int32, target: Int32)] {
        ((try? TextFile.list("/proc/self/fd")) ?? []).compactMap { Int32($0) }.filter {
            $0 > 2 && $0 != own && tdxd_get_close_on_exec($0) == 0
        }.prefix(64).map { (source: $0, target: $0) }
    }
}

/// Where the library writes its report: the user's own file, or one in a directory that is removed at the end.
private struct ReportPlace {
    let path: String
    private let directory: String?

    init(_ file: String?) throws(Failure) {
        if let file {
            (path, directory) = (file, nil)
            // A file from an earlier run is not the report of this one.
            _ = tdxd_unlink(file)
            return
        }
        guard let made = tdxd_make_temporary_directory("tdxctl-run") else {
            throw Failure(
                status: .failed, code: "system",
                message: "a directory for the report cannot be made in $TMPDIR or /tmp",
                hint: nil)
        }
        defer { tdxd_free_string(made) }
        directory = String(cString: made)
        path = directory! + "/report.json"
    }

    func read() -> EngineReport? {
        guard let text = try? TextFile.read(path) else { return nil }
        return try? EngineReport.decode(Array(text.utf8))
    }

    func remove() {
        guard let directory else { return }
        _ = tdxd_unlink(path)
        _ = tdxd_unlink(path + ".new")
        _ = tdxd_remove_directory(directory)
    }
}

/// A program that a library can be preloaded into.
struct PreloadableProgram {
    let path: String

    /// - Parameters:
    ///   - name: a path, or a name to be looked for.
    ///   - path: the directories of $PATH.
    /// - Throws: where there is no such program, or the dynamic linker would not load the library, with the reason.
    init(_ name: String, path directories: String?) throws(Failure) {
        self.path = try Self.find(name, directories)
        try Self.check(path, depth: 0)
    }

    private static func find(_ name: String, _ directories: String?) throws(Failure) -> String {
        let candidates =
            name.contains("/")
            ? [name]
            : (directories ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":").map { "\($0)/\(name)" }
        for candidate in candidates where tdxd_access(candidate, 1) == 0 {
            var status = tdxd_file_status()
            // S_IFREG
            if tdxd_stat(candidate, 1, &status) == 0, status.mode & 0o170000 == 0o100000 { return candidate }
        }
        throw Failure(
            status: .failed, code: "no_program", message: "“\(printable(name))” is no program that can be run",
            hint: nil)
    }

    private static func check(_ path: String, depth: Int) throws(Failure) {
        func refuse(_ reason: String) -> Failure {
            Failure(
                status: .failed, code: "not_preloadable",
                message: "\(path) \(reason): the library cannot be preloaded into it",
                hint: "in the seam lab any VMM runs unmodified, on Linux's own TDX code: see docs/seam-lab.md")
        }
        var status = tdxd_file_status()
        guard tdxd_stat(path, 1, &status) == 0 else { throw refuse("cannot be looked at") }
        if status.mode & 0o4000 != 0 { throw refuse("is a setuid program") }
        if status.mode & 0o2000 != 0 { throw refuse("is a setgid program") }
        if tdxd_has_any_attribute(path, "security.capability") == 1 { throw refuse("has file capabilities") }
        switch ProgramKind(path) {
        case .dynamic, .unknown: return
        case .fixed: throw refuse("is statically linked")
        case .otherMachine: throw refuse("is a program for another machine than x86-64")
        case .script(let interpreter):
            // A script may start anything; what runs it must at least pass the library on.
            guard depth < 4 else { return }
            try check(interpreter, depth: depth + 1)
        }
    }
}

/// What a program file is, by its first bytes.
enum ProgramKind: Hashable {
    /// ELF with an interpreter: the dynamic linker.
    case dynamic
    case fixed
    case otherMachine
    case script(interpreter: String)
    case unknown

    init(_ path: String) {
        guard let file = try? OwnedDescriptor.open(path: path) else {
            self = .unknown
            return
        }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = bytes.withUnsafeMutableBytes { tdxd_pread(file.rawValue, $0.baseAddress, $0.count, 0) }
        self.init(Array(bytes.prefix(max(0, Int(count)))))
    }

    /// - Parameter bytes: the beginning of the file, as far as the program headers.
    init(_ bytes: [UInt8]) {
        func number(_ offset: Int, _ size: Int) -> UInt64? {
            guard offset >= 0, offset <= bytes.count - size else { return nil }
            return (0..<size).reversed().reduce(0) { $0 << 8 | UInt64(bytes[offset + $1]) }
        }
        if bytes.starts(with: [0x23, 0x21]) {
            let line = bytes.dropFirst(2).prefix { $0 != 10 }
            let words = String(decoding: line, as: UTF8.self).split { $0 == " " || $0 == "\t" }
            self = words.first.map { .script(interpreter: String($0)) } ?? .unknown
            return
        }
        guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
            self = .unknown
            return
        }
        // 64 bits, little endian, EM_X86_64.
        guard bytes.count > 5, bytes[4] == 2, bytes[5] == 1, number(18, 2) == 62 else {
            self = .otherMachine
            return
        }
        guard let start = number(32, 8), let size = number(54, 2), let count = number(56, 2), start < 1 << 16 else {
            self = .unknown
            return
        }
        self = .fixed
        for index in 0..<Int(count) {
            guard let type = number(Int(start) + index * Int(size), 4) else {
                self = .unknown
                return
            }
            // PT_INTERP
            if type == 3 {
                self = .dynamic
                return
            }
        }
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
