internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct SelfTestCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest", abstract: "Runs a small guest on a real vCPU out of guest_memfd memory.")

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var last: ManagerInterface.SelfTest.Reply?
        var streamed = 0
        let style = context.console.style
        try context.withManager { client throws(VarlinkClientError) in
            try client.callMore(
                ManagerInterface.SelfTest.method, as: ManagerInterface.SelfTest.Reply.self, timeout: .seconds(120)
            ) { reply, isLast in
                if let step = reply.step, context.json == .off {
                    context.console.write(render(step, style))
                    streamed += 1
                }
                if isLast { last = reply }
            }
        }
        guard let last, let passed = last.passed else {
            throw Failure(.protocolViolation("the last reply has no verdict"))
        }
        // A server that does not stream has sent no step yet.
        let unseen = (last.steps ?? []).dropFirst(streamed).map { render($0, style) }.joined()
        context.show(SelfTestRecord(last), text: unseen + renderVerdict(last, style))
        return passed ? .ok : .failed
    }
}

/// `tdxctl selftest --json`
struct SelfTestRecord: Encodable {
    var backend: String?
    var emulated: Bool?
    var passed: Bool
    var steps: [SelfTestStep]

    init(_ reply: ManagerInterface.SelfTest.Reply) {
        backend = reply.backend
        emulated = reply.backend.flatMap(Backend.init(rawValue:))?.isEmulated
        passed = reply.passed ?? false
        steps = reply.steps ?? []
    }
}
