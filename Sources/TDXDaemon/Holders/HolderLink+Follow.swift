internal import ControlInterface
internal import LinuxSystem
internal import Terms
internal import Varlink

extension HolderLink {
    /// Asks for the changes behind `since`, and has the event loop wait for the answer. On the loop's thread.
    ///
    /// - Parameters:
    ///   - wait: how long the holder waits for a change.
    ///   - silence: how long after that nothing may be heard.
    ///   - then: called once on the loop, unless this returned false.
    /// - Returns: false where the holder cannot be asked at once.
    func followMap(
        since: Int64, wait: Duration, silence: Duration, on loop: EventLoop,
        then: @escaping (Result<HolderInterface.MapChanges.Reply, ControlError>) -> Void
    ) -> Bool {
        guard let client = takeAtOnce() else { return false }
        return client.call(
            HolderInterface.MapChanges.method,
            HolderInterface.MapChanges.Parameters(since: since, waitMilliseconds: wait.wholeMilliseconds),
            as: HolderInterface.MapChanges.Reply.self, timeout: wait + silence, on: loop
        ) { result in
            switch result {
            case .success(let reply):
                putBack(client)
                do throws(ControlError) {
                    try checking { () throws(Refusal) in
                        try claims.check(changes: reply.runs, isSnapshot: reply.snapshot)
                    }
                    then(.success(reply))
                } catch {
                    then(.failure(error))
                }
            case .failure(let error): then(.failure(failure(of: error, client)))
            }
        }
    }
}
