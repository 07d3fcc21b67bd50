//! Lists of like tasks: all, the first success, every outcome.

use std::fmt;
use std::ops::ControlFlow;

use super::builder::GroupBuilder;
use super::packet::TaskError;
use super::spawn::SpawnError;
use crate::cancel::CancelToken;
use crate::threads::Task as Named;

impl<E: fmt::Display + Send> GroupBuilder<E> {
    /// Runs all `tasks` and returns their results in the order of submission, or the first error
    /// in time; the others are cancelled then, or never start. So
    /// [`collect_errors`](Self::collect_errors) and [`collect_panics`](Self::collect_panics) have no
    /// effect here.
    ///
    /// # Panics
    ///
    /// As [`scope`](Self::scope) does.
    ///
    /// # Errors
    ///
    /// The first of a task; or a [`SpawnError`] if the token was cancelled before all had started,
    /// or a thread could not be created.
    ///
    /// # Examples
    ///
    /// ```
    /// use anyhow::ensure;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let halves = |numbers: &[u32]| {
    ///     let tasks = numbers.iter().map(|&n| move |_: &CancelToken| {
    ///         ensure!(n % 2 == 0, "{n} is odd");
    ///         Ok(n / 2)
    ///     });
    ///     GroupBuilder::new().limit(2).all(&CancelToken::new(), tasks)
    /// };
    /// assert_eq!(halves(&[2, 4, 6]).unwrap(), [1, 2, 3]);
    /// assert_eq!(halves(&[2, 5, 6]).unwrap_err().to_string(), "5 is odd");
    /// ```
    #[track_caller]
    pub fn all<'env, F, R>(
        &self,
        token: &CancelToken,
        tasks: impl IntoIterator<Item = F>,
    ) -> Result<Vec<R>, E>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'env,
        R: Send + 'env,
        E: From<SpawnError> + 'env,
    {
        let named = Named::here(self.name.clone());
        let builder = self.clone().first_failure_ends();
        builder.scope(token, |group| {
            let mut handles = Vec::new();
            for task in tasks {
                handles.push(group.spawn_waiting(&named, task)?);
            }
            group.end.await_all();
            let mut results = Vec::with_capacity(handles.len());
            for handle in handles {
                match handle.join() {
                    Ok(result) => results.push(result),
                    // The group's result is the task's error, which came before this one.
                    Err(_) => return Err(E::from(stopped(group.token()))),
                }
            }
            Ok(results)
        })
    }

    /// Runs `tasks` until the first one succeeds; the others are cancelled then, or never start.
    /// [`collect_panics`](Self::collect_panics) has no effect here.
    ///
    /// # Panics
    ///
    /// As [`scope`](Self::scope) does.
    ///
    /// # Errors
    ///
    /// When none succeeded: all errors in the order of submission. For a task that never started,
    /// because the token was cancelled or there was no thread, that is a [`SpawnError`]. With no
    /// tasks at all, the list is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// use anyhow::anyhow;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// type Mirror = fn(&CancelToken) -> anyhow::Result<&'static str>;
    /// let down: Mirror = |_| Err(anyhow!("down"));
    /// let slow: Mirror = |token| { token.wait(); Ok(token.check().map(|()| "slow")?) };
    /// let fast: Mirror = |_| Ok("fast");
    ///
    /// let group = GroupBuilder::new();
    /// let token = CancelToken::new();
    /// assert_eq!(group.first_success(&token, [down, slow, fast]).unwrap(), "fast");
    /// let errors = group.first_success(&token, [down, down]).unwrap_err();
    /// assert_eq!(errors.len(), 2);
    /// ```
    #[track_caller]
    pub fn first_success<'env, F, R>(
        &self,
        token: &CancelToken,
        tasks: impl IntoIterator<Item = F>,
    ) -> Result<R, Vec<E>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'env,
        R: Send + 'env,
        E: From<SpawnError> + 'env,
    {
        let named = Named::here(self.name.clone());
        let builder = self.clone().first_failure_ends();
        let builder = builder.breaks::<R>().collect_errors();
        let flow = builder.scope_flow(token, |group| {
            let mut attempts = Vec::new();
            for task in tasks {
                attempts.push(group.spawn_waiting(&named, move |token: &CancelToken| {
                    let value = task(token)?;
                    // A late success is dropped: it is not the first.
                    group.break_with(value).ok();
                    Ok(())
                }));
            }
            group.end.await_all();
            let mut errors = Vec::new();
            for attempt in attempts {
                match attempt.map(super::Task::join) {
                    Ok(Ok(())) => {}
                    Ok(Err(TaskError::Failed(error))) => errors.push(error),
                    Ok(Err(_)) => errors.push(E::from(stopped(group.token()))),
                    Err(error) => errors.push(E::from(error)),
                }
            }
            Ok(errors)
        });
        match flow {
            Ok(ControlFlow::Break(value)) => Ok(value),
            Ok(ControlFlow::Continue(errors)) => Err(errors),
            Err(error) => Err(vec![error]),
        }
    }

    /// Runs all `tasks` to their ends and returns every outcome, in the order of submission. No
    /// error or panic cancels the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use anyhow::bail;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let tasks = (0..3).map(|n| move |_: &CancelToken| match n {
    ///     1 => bail!("one"),
    ///     2 => panic!("two"),
    ///     n => Ok(n),
    /// });
    /// let outcomes = GroupBuilder::new().collect(&CancelToken::new(), tasks);
    /// assert_eq!(*outcomes[0].as_ref().unwrap(), 0);
    /// assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "one");
    /// assert!(outcomes[2].as_ref().unwrap_err().is_panic());
    /// ```
    #[track_caller]
    pub fn collect<'env, F, R>(
        &self,
        token: &CancelToken,
        tasks: impl IntoIterator<Item = F>,
    ) -> Vec<Result<R, TaskError<E>>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'env,
        R: Send + 'env,
        E: From<SpawnError> + 'env,
    {
        let named = Named::here(self.name.clone());
        let builder = self.clone().collect_errors().collect_panics();
        let outcomes = builder.scope(token, |group| {
            let spawn = |task| group.spawn_waiting(&named, task);
            let handles: Vec<_> = tasks.into_iter().map(spawn).collect();
            group.end.await_all();
            let outcomes = handles.into_iter().map(|handle| match handle {
                Ok(handle) => handle.join(),
                Err(SpawnError::Cancelled(_)) => Err(TaskError::NotStarted),
                Err(error) => Err(TaskError::Failed(E::from(error))),
            });
            Ok(outcomes.collect())
        });
        match outcomes {
            Ok(outcomes) => outcomes,
            Err(_) => unreachable!("neither the tasks nor the body can fail the group"),
        }
    }
}

/// Why a task of a list has no result, when the group itself has none to say.
fn stopped(token: &CancelToken) -> SpawnError {
    match token.check() {
        Err(cancelled) => SpawnError::Cancelled(cancelled),
        Ok(()) => unreachable!("a task that did not run to its end was cancelled"),
    }
}
