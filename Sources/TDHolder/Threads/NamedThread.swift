internal import Glibc

/// Starts a detached thread with a name of at most 15 bytes, as `ps -L` shows it.
func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Start(name, body)).toOpaque()
    let result = pthread_create(
        &thread, nil,
        { pointer in
            let start = Unmanaged<Start>.fromOpaque(pointer!).takeRetainedValue()
            start.body()
            return nil
        }, argument)
    precondition(result == 0, "pthread_create failed with errno \(result)")
    pthread_detach(thread)
}
