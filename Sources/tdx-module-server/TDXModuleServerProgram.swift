import ArgumentParser
import Glibc
import MemoryUnits
import TDXModule
import TDXModuleServer

/// The software TDX module of a machine in which Linux's own TDX code runs.
@main
struct TDXModuleServerProgram: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tdx-module-server",
        abstract: "Answers the SEAMCALLs of a kernel in a QEMU machine with the software TDX module.",
        discussion: """
            scripts/kernel-lab --tdx starts it beside QEMU, whose memory it maps, and it ends with the machine. It prints \
            what was called on standard error. Status 0: the machine ended; 1: the server could not begin or go on; \
            3: the host wrote to a page that the module owned, or used an address without memory as one.
            """)

    @Option(help: ArgumentHelp("Memory of a NUMA node; once for each, in their order.", valueName: "file"))
    var memory: [String]

    @Option(help: ArgumentHelp("Memory below 4 GiB as QEMU has it (max-ram-below-4g), 1 to 4096.", valueName: "mib"))
    var lowMemory: UInt64 = 2048

    @Option(help: ArgumentHelp("The FIFO that the machine's doorbell writes to.", valueName: "fifo"))
    var bell: String

    @Option(help: ArgumentHelp("Write “ready” there once the memory is mapped.", valueName: "file"))
    var ready: String?

    @Option(help: ArgumentHelp("The guest of every vCPU: \(GuestScript.grammar)", valueName: "script"))
    var guest: String = ""

    @Option(help: "The module's version: 1.5.01 or late. Linux 7.2 needs late.")
    var version: String = "late"

    @Option(help: ArgumentHelp("Record every call for tdxctl trace replay; must not exist yet.", valueName: "file"))
    var trace: String?

    @Option(help: ArgumentHelp("Write counts and findings as JSON at the end.", valueName: "file"))
    var report: String?

    @Option(
        help: ArgumentHelp(
            "A condition that calls meet from the first TD on: \(PlannedFault.names.map(\.name).joined(separator: ", ")).",
            valueName: "name[:times[:skipping]]"))
    var fault: [String] = []

    @Option(help: "Odds in 1,000 that a call finds each of its locks held, from the first TD on.")
    var busyPermille: UInt64 = 0

    @Option(help: "Seed of those odds.")
    var seed: UInt64 = 1

    func validate() throws {
        guard (1...4096).contains(lowMemory) else { throw ValidationError("--low-memory is 1 to 4096 MiB.") }
        guard busyPermille <= 1000 else { throw ValidationError("--busy-permille is 0 to 1000.") }
        _ = try options()
    }

    private func options() throws -> ServerOptions {
        guard let version = ModuleVersion(rawValue: version) else {
            throw ValidationError("--version is 1.5.01 or late, not “\(version)”.")
        }
        do throws(ServerError) {
            return ServerOptions(
                memory: memory, lowMemory: .mebibytes(lowMemory), bell: bell, version: version,
                guest: try GuestScript(parsing: guest), trace: trace,
                faults: try fault.map { text throws(ServerError) in try PlannedFault(parsing: text) },
                busyPermille: busyPermille, seed: seed)
        } catch { throw ValidationError(error.description) }
    }

    func run() throws {
        let found: ServerReport
        do {
            let server = try ModuleServer(try options()) { Self.printError($0) }
            if let ready { try write("ready\n", to: ready) }
            found = try server.run()
        } catch let error as ServerError {
            Self.printError(error.description)
            throw ExitCode(1)
        }
        Self.printError(found.text)
        if let report { try write(found.json + "\n", to: report) }
        if !found.isClean { throw ExitCode(3) }
    }

    private func write(_ text: String, to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw ServerError("\(path): \(String(cString: strerror(errno)))") }
        defer { close(file) }
        let bytes = Array(text.utf8)
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else {
            throw ServerError("\(path): the file takes no more")
        }
    }

    private static func printError(_ text: String) {
        let bytes = Array("tdx-module-server: \(text)\n".utf8)
        _ = Glibc.write(2, bytes, bytes.count)
    }
}
