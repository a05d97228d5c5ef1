import ArgumentParser
import TDHolder

struct Probe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Reads what this host offers and prints a report. Changes nothing.")

    @OptionGroup var backend: BackendOption

    @Flag(help: "Print the report as one line of JSON.")
    var json = false

    func run() throws {
        let report = HolderProgram.probe(backend.backend, device: backend.kvmDevice)
        print(json ? HolderProgram.json(report) : HolderProgram.text(report))
    }
}

struct SelfTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest",
        abstract: "Runs a small guest on a real vCPU out of guest_memfd and checks what the host does around it.")

    @OptionGroup var backend: BackendOption

    @Flag(help: "Print each step as one line of JSON, as it ends.")
    var jsonLines = false

    func run() throws {
        let passed = HolderProgram.selfTest(backend.backend, device: backend.kvmDevice) { step in
            HolderProgram.printLine(jsonLines ? HolderProgram.json(step) : HolderProgram.text(step))
        }
        if !passed { throw ExitCode.failure }
    }
}
